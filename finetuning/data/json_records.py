"""The entries of one big JSON array or object, each with the line that it begins on.

Exports are single documents of thousands of records; `json.loads` forgets where each came from,
and a person who is to mend one has to know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


class BrokenJson(ValueError):
    """The text is not JSON from `line` on."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"not JSON from line {line} on ({what})")
        self.line = line


def first_key(text: str) -> str | None:
    """The first key of an object, None for anything else: tells formats apart cheaply."""
    match = re.match(r'\s*\{\s*("(?:[^"\\]|\\.)*")', text)
    if match is None:
        return None
    try:
        return str(json.loads(match[1]))
    except ValueError:
        return None


def records(text: str, within: str | None = None) -> Iterator[tuple[int, str, Any]]:
    """Yield (line, key, value) of the entries of an array (key "") or an object.

    `within`: for an object, the key of the array whose entries are wanted instead.

    Raises:
        BrokenJson: the text is cut off or damaged; what came before has been yielded.
    """
    reader = _Reader(text)
    yield from reader.entries(within)
    reader.end()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line, self._counted = 1, 0

    def entries(self, within: str | None) -> Iterator[tuple[int, str, Any]]:
        opening = self._one_of("[{")
        closing = "]" if opening == "[" else "}"
        if self._peek() == closing:
            self._at += 1
            return
        while True:
            self._peek()
            line, key = self._line_now(), ""
            if opening == "{":
                key = self._value()
                if not isinstance(key, str):
                    raise BrokenJson(line, "a key that is no text")
                self._one_of(":")
            if within is not None and key == within and self._peek() == "[":
                yield from self.entries(None)
            else:
                value = self._value()
                if within is None:
                    yield line, key, value
            if self._one_of("," + closing) == closing:
                return

    def end(self) -> None:
        if self._peek():
            raise BrokenJson(self._line_now(), "more after the end")

    def _peek(self) -> str:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()
        return self._text[self._at : self._at + 1]

    def _one_of(self, wanted: str) -> str:
        found = self._peek()
        if not found or found not in wanted:
            what = f"expected {' or '.join(wanted)}" if found else "cut off"
            raise BrokenJson(self._line_now(), what)
        self._at += 1
        return found

    def _value(self) -> Any:
        self._peek()
        try:
            value, self._at = _decode(self._text, self._at)
        except json.JSONDecodeError as error:
            self._at = min(error.pos, len(self._text))
            raise BrokenJson(self._line_now(), error.msg) from None
        except RecursionError:
            raise BrokenJson(self._line_now(), "nested too deep") from None
        return value

    def _line_now(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line
