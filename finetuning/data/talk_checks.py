"""Whether talks keep to their form, their length and friend's character, as far as rules can say.

A rule finds what is surely or probably wrong; it does not find what is dull. Read what you add.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from finetuning.data.talk_text import SLOT, Talk, Talks, shipped_talks

NEVER = "never.txt"
MOST = 30  # words of a reply

_LIST = re.compile(r"^\s*([-*#]|\d+[.)]) ")
_MARKDOWN = re.compile(r"\*\*|__|`|\]\(")


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that breaks a rule."""

    talk: Talk
    said: str
    why: str


@cache
def never_said() -> tuple[re.Pattern[str], ...]:
    """What no reply may say of friend."""
    lines = (shipped_talks() / NEVER).read_text("utf-8").splitlines()
    return tuple(re.compile(line, re.IGNORECASE) for line in lines if line and line[0] != "#")


def faults(talks: Talks) -> Iterator[Fault]:
    """What breaks a rule, in the order of the talks; a talk that is there twice is one of them."""
    seen: Counter[tuple[tuple[str, ...], ...]] = Counter()
    for talk in talks.talks:
        seen[talk.lines] += 1
        if seen[talk.lines] == 2:
            yield Fault(talk, talk.lines[0][0], "this talk is there twice")
        for place, line in enumerate(talk.lines):
            for said in line:
                if why := _why_not(said) if place % 2 else _why_not_typed(said):
                    yield Fault(talk, said, why)


def _why_not_typed(said: str) -> str:
    return "" if said.isascii() else "not plain ASCII"


def _why_not(said: str) -> str:
    """What is wrong with a reply, in a few words; empty if nothing is."""
    return next((why for why, wrong in _RULES.items() if wrong(said)), "")


def _words(said: str) -> int:
    return len(SLOT.sub("x", said).split())


_RULES: dict[str, Callable[[str], bool]] = {
    "not plain ASCII": lambda said: not said.isascii(),
    f"more than {MOST} words": lambda said: _words(said) > MOST,
    "more than one exclamation mark": lambda said: said.count("!") > 1,
    "a list or markdown": lambda said: bool(_LIST.search(said) or _MARKDOWN.search(said)),
    "the end is missing": lambda said: said[-1] not in ".!?\"')}",
    "friend claims what it has not (see CHARACTER.md)": lambda said: any(
        one.search(re.sub(r'"[^"]*"', "", said)) for one in never_said()
    ),
}
