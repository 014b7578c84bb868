"""Server-Sent Events, decoded from bytes as they arrive.

Follows the event-stream grammar of the HTML standard (section 9.2.6): lines end in LF, CR or
CRLF; a line that begins with a colon is a comment; several `data` lines of one event are joined
by LF; a byte order mark at the start is skipped. Two departures: an event that the end of the
stream cuts off before its blank line is given out all the same, because several servers leave
that line away; and `id` and `retry` are ignored, because a model's stream cannot be resumed.

Errors come in more ways than events do. An `error` field (llama.cpp), the data of an event named
`error` (proxies), and a line that is a JSON object with no field name before it, are given out as
the data of an event: the first two as `{"error": ...}`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE_END = re.compile(rb"\r\n|\n|\r")

__all__ = ["EventTooLong", "SSEDecoder"]


class EventTooLong(ValueError):
    """One event is larger than the decoder was told to hold."""


class SSEDecoder:
    """Give it chunks of any size, cut anywhere; it yields the `data` of each whole event."""

    def __init__(self, max_event_bytes: int) -> None:
        self._max = max_event_bytes
        self._partial: list[bytes] = []
        self._data: list[bytes] = []
        self._is_error = False
        self._held = 0
        self._first_line = True
        self._skip_lf = False

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the data of the events that this chunk completes."""
        if not chunk:
            return
        if self._skip_lf and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._skip_lf = chunk.endswith(b"\r")
        *lines, rest = _LINE_END.split(chunk)
        for line in lines:
            if self._partial:
                self._held -= sum(map(len, self._partial))
                line = b"".join([*self._partial, line])
                self._partial.clear()
            if (event := self._take(line)) is not None:
                yield event
        if rest:
            self._partial.append(rest)
            self._hold(len(rest))

    def close(self) -> Iterator[str]:
        """Yield what the end of the stream left without its blank line."""
        for last in (b"".join(self._partial), b""):
            if (event := self._take(last)) is not None:
                yield event
        self._partial.clear()

    def _take(self, line: bytes) -> str | None:
        """The event that this line ends, if it ends one."""
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            self._held = 0
            event = b"\n".join(self._data).decode("utf-8", "replace") if self._data else None
            if event is not None and self._is_error:
                event = _as_error(event)
            self._data.clear()
            self._is_error = False
            return event
        self._hold(len(line) + 1)
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if line.startswith(b"{"):
            self._data.append(line)
        elif name in (b"data", b"error"):
            self._data.append(value)
        if name == b"error" or (name == b"event" and value.strip() == b"error"):
            self._is_error = True
        return None

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > self._max:
            raise EventTooLong(f"an event of more than {self._max} bytes")


def _as_error(data: str) -> str:
    """What was said of an error, in the envelope in which the others say it."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = data
    if isinstance(said, dict) and said.get("error"):
        return data
    return json.dumps({"error": said or "no words"})
