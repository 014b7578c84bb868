"""Breaking a growing text into lines, word by word, without ever taking a word back."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len

_PIECES = re.compile(
    r"\n"
    r"|[^\S\n]+"
    # Scripts written without spaces may break after any character.
    r"|[\u3000-\u30ff\u3400-\u9fff\uff00-\uff60]"
    r"|[^\s\u3000-\u30ff\u3400-\u9fff\uff00-\uff60]+"
)


class WrappedStream:
    """What to print as a text becomes known, so that no word is cut at the right edge.

    The last word is held back until something follows it, as it may still grow.

    Args:
        width: cells in a line.
        indent: cells left free at the start of each line, the first included.
    """

    def __init__(self, *, width: int, indent: int) -> None:
        self._room = max(width - indent, 10)
        self._indent = " " * indent
        self._column = 0
        self._space = ""
        self._taken = ""

    @property
    def taken(self) -> str:
        """The start of the text that has been given out."""
        return self._taken

    def grow(self, text: str) -> str:
        """What to print now that the text is known to begin with `text`."""
        return self._print(text, final=False)

    def finish(self, text: str) -> str:
        """What to print to complete `text`; if that is not how it began, all of it, below."""
        return self._print(text, final=True)

    def _print(self, text: str, *, final: bool) -> str:
        if not text.startswith(self._taken):
            if not final or self._taken.startswith(text):
                return ""
            self._taken, self._column, self._space = "", 0, ""
            return "\n" + self._indent + self._print(text, final=True)
        pieces = list(_PIECES.findall(text[len(self._taken) :]))
        if not final and pieces and not pieces[-1].isspace():
            pieces.pop()
        self._taken += "".join(pieces)
        return "".join(part for piece in pieces for part in self._place(piece))

    def _place(self, piece: str) -> Iterator[str]:
        if piece == "\n":
            self._column, self._space = 0, ""
            yield "\n" + self._indent
        elif piece.isspace():
            self._space += piece.replace("\t", "    ")
        else:
            yield from self._place_word(piece)

    def _place_word(self, word: str) -> Iterator[str]:
        space, self._space = self._space, ""
        if self._column and self._column + cell_len(space) + cell_len(word) > self._room:
            self._column = 0
            yield "\n" + self._indent
        else:
            self._column += cell_len(space)
            yield space
        for row, part in enumerate(_rows(word, self._room)):
            if row:
                self._column = 0
                yield "\n" + self._indent
            self._column += cell_len(part)
            yield part


def _rows(word: str, room: int) -> Iterator[str]:
    """A word that is longer than a line, in pieces that fit."""
    if cell_len(word) <= room:
        yield word
        return
    row, width = "", 0
    for char in word:
        cells = cell_len(char)
        if width + cells > room:
            yield row
            row, width = "", 0
        row += char
        width += cells
    yield row
