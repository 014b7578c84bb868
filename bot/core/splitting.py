"""Cutting a long reply into messages that a platform takes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from bot.core.code import FENCE, fences

_BREAKS = (
    re.compile(r"\n[ \t]*\n+"),
    re.compile(r"\n"),
    re.compile(r"(?<=[.!?…。！？])[\"')\]]*\s+"),
    re.compile(r"\s+"),
)
"""Where to cut, best first: paragraph, line, sentence, word."""
_JOINERS = {"\u200d", "\ufe0e", "\ufe0f", "\u20e3"}


def split(text: str, limit: int, measure: Callable[[str], int] = len) -> list[str]:
    """Cut `text` into parts of at most `limit`, at the best place near the end of each.

    Cuts fall between paragraphs, lines, sentences or words, in this order of preference; a word
    longer than a part is cut between characters as a reader sees them. A code block that has to
    be cut is closed at the end of its part and opened again, with its language, in the next.

    Args:
        limit: at least 20, in the unit of `measure`.
        measure: the platform's length of a text; must not shrink when the text grows.
    """
    if limit < 20:
        raise ValueError("a part must hold at least 20 characters")
    parts: list[str] = []
    rest = text.strip()
    while measure(rest) > limit:
        end, skip, fence = _cut(rest, limit, measure)
        head = rest[:end].rstrip()
        tail = rest[end + skip :].lstrip("\n") if fence else rest[end + skip :].lstrip()
        if fence:
            marker = fence.strip().split(maxsplit=1)[0]
            marker = re.match(r"`+|~+", marker).group()  # type: ignore[union-attr]
            head = f"{head}\n{marker}"
            tail = f"{fence}\n{tail}"
        if head:
            parts.append(head)
        rest = tail
    if rest:
        parts.append(rest)
    return parts


def closed(text: str) -> str:
    """The text, with a code block that is still open at its end closed."""
    opening = ""
    for match in FENCE.finditer(text):
        if not opening:
            opening = match.group(1)
        elif match.group(1)[0] == opening[0] and not match.group(2).strip():
            opening = ""
    return f"{text}\n{opening}" if opening else text


def _cut(text: str, limit: int, measure: Callable[[str], int]) -> tuple[int, int, str]:
    """Where to cut: (end of the part, characters of white space to skip, open fence or "")."""
    room = _longest_prefix(text, limit, measure)
    blocks = list(fences(text, room))
    best: tuple[int, int] | None = None
    for pattern in _BREAKS:
        found = [
            match
            for match in pattern.finditer(text, 0, room + 1)
            if room // 2 <= match.start() <= room and match.start() > 0
        ]
        outside = [m for m in found if not _inside(m.start(), blocks)]
        if outside:
            last = outside[-1]
            best = (last.start(), last.end() - last.start())
            break
    if best is not None:
        return best[0], best[1], ""
    opened = _inside(room, blocks)
    if opened is None:
        end = _character_border(text, room)
        return end, 0, ""
    start, fence = opened
    if start > limit // 4:
        return start, 0, ""
    closing = len(re.match(r"\s*(`+|~+)", fence).group(1)) + 1  # type: ignore[union-attr]
    if limit < 2 * (len(fence) + closing + 2):
        return _character_border(text, room), 0, ""
    room = _longest_prefix(text, limit - closing, measure)
    line = text.rfind("\n", start + len(fence) + 1, room)
    if line > start + len(fence):
        return line, 1, fence
    return _character_border(text, room), 0, fence


def _longest_prefix(text: str, limit: int, measure: Callable[[str], int]) -> int:
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if measure(text[:middle]) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def _inside(position: int, blocks: list[tuple[int, int, str]]) -> tuple[int, str] | None:
    for start, end, opening in blocks:
        if start < position < end:
            return start, opening
    return None


def _character_border(text: str, position: int) -> int:
    """The nearest place at or before `position` that does not cut a character in two.

    A rule of thumb for grapheme clusters (combining marks, joined and toned emoji, flags); where
    no border is near, the position itself.
    """
    for candidate in range(position, max(position - 40, 0), -1):
        if candidate >= len(text) or not _joined(text, candidate):
            return candidate
    return position


def _joined(text: str, at: int) -> bool:
    before, after = text[at - 1], text[at]
    if after in _JOINERS or before == "\u200d" or unicodedata.category(after).startswith("M"):
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff":
        return True
    if _is_flag_letter(before) and _is_flag_letter(after):
        run = 0
        while run < at and _is_flag_letter(text[at - 1 - run]):
            run += 1
        return run % 2 == 1
    return False


def _is_flag_letter(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"
