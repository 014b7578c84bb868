"""Conversations drawn from talks: alternatives chosen, slots filled, the user's lines roughened.

A draw is a function of the random generator, so an epoch is one of its number: each has other
fillers, other alternatives and other slips of the keyboard. Besides, a talk is sometimes joined to
another, since people change the subject without a word, and between what was told and what is asked
back there may come an exchange about something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from finetuning.data.chance import one_of
from finetuning.data.corpus import Conversation
from finetuning.data.roughen import roughened
from finetuning.data.talk_text import NAME, SLOT, Talk, Talks

WEIGHTS: Mapping[str, float] = {
    f"{NAME}/memory": 2.0, f"{NAME}/self": 1.5, f"{NAME}/patterns": 4.0,
    f"{NAME}/patterns/recall": 8.0,
}  # fmt: skip
"""How often an epoch draws a talk of a kind, or of a kind's part; 1 for those not named."""

PATTERNS = "patterns"
"""The kind of those that are patterns of many."""

_JOINED = 0.2  # chance of one more talk behind a talk
_APART = 0.4  # of something else between what was told and the asking back
_MADE_UP = 0.15  # of a name that nobody has
_NAMES = ("name", "petname")
_GENERAL = ("openers", "daily", "feelings", "fun", "world", "self", "play", "followups")
_CLOSE = re.compile(r"\b(just|did i say|word|repeat|again)\b", re.IGNORECASE)
_ASKS = re.compile(
    r"\?|\b(whats?|which|whos?|wheres?|when|how|remember|do (you|u)|guess|tell me)\b", re.IGNORECASE
)
_GREETS = re.compile(r"^(hi|hello|hey|yo|good (morning|afternoon|evening))\b", re.IGNORECASE)
_PARTS = re.compile(r"^(bye|good ?night|gn|see (you|ya)|cya|gotta go|i have to go)", re.IGNORECASE)
_VOWEL = re.compile(r"[aeio]|u(?!ni|s|kul)|8|11\b|18\b", re.IGNORECASE)
_SOUNDS = (
    (*"bdfghjklmnprstvwz", "br", "dr", "kr", "tr", "sh", "ch"),
    (*"aeiou", "ai", "ee", "oo"),
    (*"nlrskxmt", "", "", "", "th", "nd"),
)

Said = list[tuple[str, str]]
"""Exchanges: what the user says, and friend's answer."""


class TalkDraws:
    """Draws the talks of an epoch."""

    def __init__(self, talks: Talks, weights: Mapping[str, float] | None = None) -> None:
        """`weights`: see WEIGHTS, whose values they go before; `talks` is a factor for all."""
        self._talks = talks
        self._weights = {**WEIGHTS, **(weights or {})}
        general = [
            one
            for one in talks.talks
            if one.kind in _GENERAL and not one.slots and not _opens_or_ends(one)
        ]
        self._asides = [one for one in general if len(one.lines) == 2]
        self._more = general

    def epoch(self, random: np.random.Generator) -> Iterator[Conversation]:
        """Each talk as often as its weight says, on average."""
        for talk in self._talks.talks:
            for _ in range(int(self._weight(talk) + random.random())):
                yield self.draw(talk, random)

    def draw(self, talk: Talk, random: np.random.Generator) -> Conversation:
        """One conversation of `talk`."""
        values: dict[str, str] = {}
        said = filled(talk, self._talks.fillers, random, values)
        if self._asides and _asks_back(talk) and random.random() < _APART:
            for _ in range(int(random.integers(1, 4))):
                other = one_of(self._asides, random)
                said[-1:-1] = filled(other, self._talks.fillers, random, values)
        while self._more and random.random() < _JOINED:
            other = one_of(self._more, random)
            said += filled(other, self._talks.fillers, random, values)
        keep = tuple(values.values())
        turns = [text for user, friend in said for text in (roughened(user, random, keep), friend)]
        return _conversation(talk, turns)

    def _weight(self, talk: Talk) -> float:
        kind = f"{NAME}/{talk.kind}"
        weight = self._weights.get(f"{kind}/{talk.part}", self._weights.get(kind, 1.0))
        return weight * self._weights.get(NAME, 1.0)


def plain(talk: Talk, talks: Talks, random: np.random.Generator) -> Conversation:
    """One conversation of `talk` as it is written, to measure a model on."""
    said = filled(talk, talks.fillers, random, {})
    return _conversation(talk, [text for exchange in said for text in exchange])


def _conversation(talk: Talk, turns: Sequence[str]) -> Conversation:
    source = talk.kind if talk.kind == PATTERNS else NAME
    return Conversation(source, tuple(turns), talk.part or talk.kind, roles=True)


def filled(
    talk: Talk,
    fillers: Mapping[str, Sequence[str]],
    random: np.random.Generator,
    values: dict[str, str],
) -> Said:
    """The exchanges of `talk`: an alternative of each line, its slots filled from `values`.

    Slots that `values` lacks are drawn and put there, no two alike.
    """
    for slot in sorted(talk.slots):
        if slot not in values:
            values[slot] = _filler(slot.rstrip("0123456789"), fillers, random, values)
    lines = [
        fill(one_of(line, random), values, is_reply=index % 2 == 1)
        for index, line in enumerate(talk.lines)
    ]
    return list(zip(lines[::2], lines[1::2], strict=True))


def fill(text: str, values: Mapping[str, str], *, is_reply: bool = True) -> str:
    """`text` with its slots filled, "a" before them made "an" where it must be.

    What begins a sentence of a reply gets a capital.
    """

    def value(found: re.Match[str]) -> str:
        article, slot, digit = found[1] or "", found[2], found[3]
        word = values[slot + digit]
        if article and _VOWEL.match(word):
            article = article[0] + "n" + article[1:]
        before = text[: found.start()].rstrip()
        if is_reply and not article and (not before or before[-1] in ".!?"):
            word = word[:1].upper() + word[1:]
        return article + word

    return _SLOT_WITH_ARTICLE.sub(value, text)


_SLOT_WITH_ARTICLE = re.compile(r"(\b[Aa] )?" + SLOT.pattern)


def _filler(
    kind: str,
    fillers: Mapping[str, Sequence[str]],
    random: np.random.Generator,
    taken: Mapping[str, str],
) -> str:
    if kind in _NAMES and random.random() < _MADE_UP:
        return _made_up_name(random)
    choice = [word for word in fillers[kind] if word not in taken.values()] or fillers[kind]
    return one_of(choice, random)


def _made_up_name(random: np.random.Generator) -> str:
    """A name that nobody has: what was told must be copied, not recognized."""
    parts = [
        one_of(sounds, random) for _ in range(int(random.integers(1, 3))) for sounds in _SOUNDS
    ]
    return "".join(parts).capitalize()


def _asks_back(talk: Talk) -> bool:
    """Whether the last answer is something told at first, and may as well be asked for later."""
    told, asked, answered = talk.lines[0], talk.lines[-2], talk.lines[-1]
    if len(talk.lines) < 4 or _CLOSE.search(" ".join(asked)):
        return False
    if not any(_ASKS.search(text) for text in asked) or any("?" in one for one in talk.lines[-3]):
        return False
    return bool(_slots(told) & _slots(answered) - _slots(asked))


def _slots(line: Sequence[str]) -> set[str]:
    return {"".join(found) for text in line for found in SLOT.findall(text)}


def _opens_or_ends(talk: Talk) -> bool:
    first = talk.lines[0][0]
    return bool(_GREETS.match(first) or _PARTS.match(first))
