"""Server-Sent Events, decoded from bytes as they arrive.

Follows the event-stream grammar of the HTML standard (section 9.2.6): lines end in LF, CR or
CRLF; a line that begins with a colon is a comment; several `data` lines of one event are joined
by LF; a byte order mark at the start is skipped. Two departures: an event that the end of the
stream cuts off before its blank line is given out all the same, because several servers leave
that line away; and `id` and `retry` are ignored, because a model's stream cannot be resumed.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["EventTooLong", "SSEDecoder"]


class EventTooLong(ValueError):
    """One event is larger than the decoder was told to hold."""


class SSEDecoder:
    """Give it chunks of any size, cut anywhere; it yields the `data` of each whole event."""

    def __init__(self, max_event_bytes: int) -> None:
        self._max = max_event_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._data: list[str] = []
        self._held = 0
        self._first_line = True
        self._skip_lf = False

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the data of the events that this chunk completes."""
        if self._skip_lf and chunk:
            self._skip_lf = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        self._buffer += chunk
        while (line := self._next_line()) is not None:
            if (event := self._take(line)) is not None:
                yield event
        if len(self._buffer) + self._held > self._max:
            raise EventTooLong(f"an event of more than {self._max} bytes")

    def close(self) -> Iterator[str]:
        """Yield what the end of the stream left without its blank line."""
        line, self._buffer = bytes(self._buffer), bytearray()
        for last in (line, b""):
            if (event := self._take(last)) is not None:
                yield event

    def _next_line(self) -> bytes | None:
        """Cut one line off the buffer, or None if none is whole yet."""
        ends = [
            at for at in (self._buffer.find(end, self._scanned) for end in b"\r\n") if at >= 0
        ]
        if not ends:
            self._scanned = len(self._buffer)
            return None
        at = min(ends)
        line = bytes(self._buffer[:at])
        after = at + 1
        if self._buffer[at : at + 1] == b"\r":
            if after == len(self._buffer):
                self._skip_lf = True
            elif self._buffer[after : after + 1] == b"\n":
                after += 1
        del self._buffer[:after]
        self._scanned = 0
        return line

    def _take(self, line: bytes) -> str | None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if not self._data:
                return None
            event, self._data, self._held = "\n".join(self._data), [], 0
            return event
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
            self._held += len(value)
        return None
