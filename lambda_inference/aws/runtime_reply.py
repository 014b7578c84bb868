"""An answer made in a thread of its own, so that a runtime can end it by the clock."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lambda_inference.serving.service import HttpResponse

_log = logging.getLogger(__name__)


class TimeIsUp(Exception):
    """The answer did not come by the time at which it has to be ended."""


class BrokenOff(Exception):
    """The answer's stream raised; the text is for a person."""


class Reply(threading.Thread):
    """Makes one answer in a thread of its own, so that the loop can end it by the clock."""

    def __init__(self, make: Callable[[], HttpResponse]) -> None:
        super().__init__(name="reply", daemon=True)
        self._make = make
        self._parts: queue.SimpleQueue[HttpResponse | bytes | BrokenOff | None] = (
            queue.SimpleQueue()
        )
        self._left = threading.Event()

    def run(self) -> None:
        """What the thread does."""
        try:
            response = self._make()
            self._parts.put(response)
            if not isinstance(response.body, bytes):
                self._read(response.body)
            self._parts.put(None)
        except Exception as error:  # noqa: BLE001
            _log.exception("an answer broke off")
            self._parts.put(BrokenOff(f"The answer broke off: {type(error).__name__}."))

    def leave(self) -> None:
        """Nobody listens any more: the reply stops at its next word."""
        self._left.set()

    def response(self, until: float) -> HttpResponse:
        """Status and headers. Raises TimeIsUp at `until` (monotonic seconds)."""
        part = self._part(until)
        if isinstance(part, BrokenOff):
            return internal_error()
        assert part is not None
        assert not isinstance(part, bytes)
        return part

    def chunks(self, until: float) -> Iterator[bytes]:
        """The body's pieces as they are made. Raises TimeIsUp, BrokenOff."""
        while (part := self._part(until)) is not None:
            if isinstance(part, BrokenOff):
                raise part
            assert isinstance(part, bytes)
            yield part

    def ended(self, until: float) -> bool:
        """Wait for the thread to end, up to `until`."""
        self.join(max(0.0, until - time.monotonic()))
        return not self.is_alive()

    def _read(self, stream: Iterator[bytes]) -> None:
        try:
            for chunk in stream:
                if self._left.is_set():
                    break
                self._parts.put(chunk)
        finally:
            if close := getattr(stream, "close", None):
                close()

    def _part(self, until: float) -> HttpResponse | bytes | BrokenOff | None:
        try:
            return self._parts.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise TimeIsUp from None


def ending(last: bytes, request_id: str) -> bytes:
    """The events that end a stream whose time is up; `last` is its latest one.

    What was said counts as a reply that reached its limit. Nothing said is an error, as it would
    have been before the stream began.
    """
    from lambda_inference.errors import DeadlinePassed
    from lambda_inference.serving import wire

    event = parsed(last.removeprefix(b"data: "))
    choices = event.get("choices")
    choice = choices[0] if choices else {}
    if not choice.get("delta", {}).get("content"):
        return wire.error_event(DeadlinePassed(_LATE, code="deadline_passed"), request_id)
    event["choices"] = [choice | {"delta": {}, "finish_reason": "length"}]
    return b"data: " + json.dumps(event).encode() + b"\n\n" + wire.DONE


_LATE = "The time limit passed before the first word. Try again, or allow more time."


def too_late() -> HttpResponse:
    """The answer to a request whose time is up before there is any other."""
    from lambda_inference.errors import DeadlinePassed
    from lambda_inference.serving.service import new_request_id, refusal

    return refusal(DeadlinePassed(_LATE, code="deadline_passed"), new_request_id())


def internal_error() -> HttpResponse:
    """The answer to a request that ran into a bug."""
    from lambda_inference.errors import InternalError
    from lambda_inference.serving.service import new_request_id, refusal

    request_id = new_request_id()
    return refusal(
        InternalError(
            f"Something went wrong in the server. Its log has more near {request_id}.",
            code="internal_error",
        ),
        request_id,
    )


def parsed(event: bytes) -> dict[str, Any]:
    """A JSON object, or an empty one in place of anything else."""
    try:
        document = json.loads(event)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
