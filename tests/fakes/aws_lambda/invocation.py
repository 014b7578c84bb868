"""One event on its way through an environment, and its answer as it comes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass


class FunctionError(Exception):
    """The function gave no answer, or not all of it. `kind` is Lambda's errorType."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


@dataclass(frozen=True)
class Head:
    """How an answer begins."""

    streamed: bool
    content_type: str


class Invocation:
    """Written by the Runtime API, read by whoever invoked."""

    def __init__(self, event: bytes) -> None:
        self.id = str(uuid.uuid4())
        self.event = event
        self.deadline = 0.0
        """Unix time, seconds; set when the event is handed to the runtime."""
        self.answered = False
        self.error: FunctionError | None = None
        self._parts: asyncio.Queue[Head | bytes | FunctionError | None] = asyncio.Queue()

    def begin(self, head: Head) -> None:
        """The runtime began to answer."""
        self._parts.put_nowait(head)

    def write(self, data: bytes) -> None:
        """Some of the answer."""
        self._parts.put_nowait(data)

    def finish(self) -> None:
        """The answer is whole."""
        if not self.answered:
            self.answered = True
            self._parts.put_nowait(None)

    def fail(self, error: FunctionError) -> None:
        """There will be no (more) answer."""
        if not self.answered:
            self.answered = True
            self.error = error
            self._parts.put_nowait(error)

    async def head(self) -> Head:
        """Wait for the answer to begin. Raises FunctionError."""
        part = await self._parts.get()
        if isinstance(part, FunctionError):
            raise part
        assert isinstance(part, Head)
        return part

    async def body(self) -> AsyncIterator[bytes]:
        """The answer as it comes, after `head`. Raises FunctionError."""
        while (part := await self._parts.get()) is not None:
            if isinstance(part, FunctionError):
                raise part
            assert isinstance(part, bytes)
            yield part
