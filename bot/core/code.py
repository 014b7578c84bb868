"""Code in a text: what stands in back-ticks or fences is shown, not said."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

FENCE = re.compile(r"^[ \t]*(```+|~~~+)([^\n`]*)$", re.MULTILINE)
_TICKS = re.compile(r"`+")


def fences(text: str, room: int | None = None) -> Iterator[tuple[int, int, str]]:
    """(start, end, opening line) of each code block that starts before `room`.

    One that is not closed goes on to the end.
    """
    opening: re.Match[str] | None = None
    for match in FENCE.finditer(text):
        if opening is None:
            if room is not None and match.start() > room:
                return
            opening = match
        elif match.group(1)[0] == opening.group(1)[0] and not match.group(2).strip():
            yield opening.start(), match.end(), opening.group()
            opening = None
    if opening is not None:
        yield opening.start(), len(text), opening.group()


def ticked(text: str) -> list[range]:
    """What stands between two equal runs of back-ticks, the back-ticks included."""
    runs = [(match.start(), match.end()) for match in _TICKS.finditer(text)]
    starts_of: dict[int, list[int]] = {}
    for start, end in runs:
        starts_of.setdefault(end - start, []).append(start)
    found: list[range] = []
    for start, end in runs:
        if found and start < found[-1].stop:
            continue
        size = end - start
        alike = starts_of[size]
        following = bisect_right(alike, start)
        if following < len(alike):
            found.append(range(start, alike[following] + size))
    return found


def without_ticked(text: str) -> str:
    """The text without what stands in back-ticks: there a mention mentions nobody."""
    kept: list[str] = []
    end = 0
    for code in ticked(text):
        kept.append(text[end : code.start])
        end = code.stop
    return " ".join([*kept, text[end:]])
