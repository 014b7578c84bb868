"""What keeps a small model's reply a reply.

Stop texts work on text, because a stop may begin in one token and end in another; what could still
become one is withheld until it is decided. The other guards work on tokens, by banning the next one
that would do harm: the model then says something else, instead of being cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

_LONGEST_PERIOD = 64  # tokens in the longest phrase whose repetition is looked for
_FENCE = re.compile(r"[ \t]*(```+|~~~+)([^`]*)")
_SAME_REPLY = 8  # tokens that may equal the beginning of an earlier reply


class StopTexts:
    """Ends a reply at a stop text, or where it begins to speak under someone's label.

    A stop text ends it anywhere. A label ends it only at the start of a line, in any case, because
    "User:" inside a sentence may be meant; nor does it in a fenced code block, or indented.
    """

    def __init__(self, stops: Collection[str], labels: Collection[str] = ()) -> None:
        self._stops = [stop for stop in stops if stop]
        self._labels = [label.casefold() for label in labels if label]
        names = "|".join(re.escape(label) for label in labels if label)
        self._label = re.compile(rf" ?(?:{names})", re.IGNORECASE) if names else None
        self._pending = ""
        self._line_start = True
        self._line = ""
        """What was released of the line under way."""
        self._fence = ""
        """What opened the code block that the line stands in; "" outside of one."""
        self.stopped_by: str | None = None
        """The stop text or label that ended the reply."""

    def feed(self, text: str) -> str:
        """The part of what came so far that is sure to belong to the reply."""
        if self.stopped_by is not None:
            return ""
        self._pending += text
        found = self._first_stop()
        if found is not None:
            end, self.stopped_by = found
            return self._release(end)
        return self._release(self._undecided())

    def finish(self) -> str:
        """The withheld rest, when no more text comes and so no stop can complete."""
        return "" if self.stopped_by is not None else self._release(len(self._pending))

    def _release(self, end: int) -> str:
        out, self._pending = self._pending[:end], self._pending[end:]
        if out:
            self._line_start = out.endswith("\n")
            *lines, self._line = (self._line + out).split("\n")
            for line in lines:
                self._fence = _fence_after(line, self._fence)
        return out

    def _line_starts(self) -> list[int]:
        """Where lines outside of code blocks begin in what is pending."""
        fence, begun, at = self._fence, self._line, 0
        starts = [0] if self._line_start and not fence else []
        while (end := self._pending.find("\n", at)) >= 0:
            fence = _fence_after(begun + self._pending[at:end], fence)
            begun, at = "", end + 1
            if not fence:
                starts.append(at)
        return starts

    def _first_stop(self) -> tuple[int, str] | None:
        found = [(self._pending.find(stop), stop) for stop in self._stops]
        if self._label is not None:
            matches = ((at, self._label.match(self._pending, at)) for at in self._line_starts())
            found += [(at, match.group().strip()) for at, match in matches if match]
        return min(((at, what) for at, what in found if at >= 0), default=None)

    def _undecided(self) -> int:
        """Where the text begins that could still turn out to be a stop."""
        end = len(self._pending)
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(self._pending)), 0, -1):
                if self._pending.endswith(stop[:size]):
                    end = min(end, len(self._pending) - size)
                    break
        for at in self._line_starts():
            rest = self._pending[at:].removeprefix(" ").casefold()
            if any(label.startswith(rest) for label in self._labels):
                end = min(end, at)
                break
        return end


def _fence_after(line: str, fence: str) -> str:
    """What opened the code block that the text after a whole line stands in; "" outside of one."""
    found = _FENCE.fullmatch(line)
    if found is None:
        return fence
    if not fence:
        return found[1]
    return "" if found[1][0] == fence[0] and not found[2].strip() else fence


def loop_bans(tokens: Sequence[int]) -> set[int]:
    """Tokens that would complete one repetition too many of what `tokens` ends with.

    A phrase of 1 token may stand 6 times in a row, 2-3 tokens 4 times, 4-15 tokens 3 times, and a
    longer one up to 64 tokens twice: "no, no, no" is speech, the same sentence thrice is a loop.
    """
    bans: set[int] = set()
    size = len(tokens)
    for period in range(1, min(_LONGEST_PERIOD, size // 2) + 1):
        span = period * (_times_allowed(period) + 1) - 1
        if span > size or tokens[-1] != tokens[-1 - period]:
            continue
        tail = tokens[size - span :]
        if tail[period:] == tail[:-period]:
            bans.add(tokens[size - period])
    return bans


def _times_allowed(period: int) -> int:
    if period == 1:
        return 6
    if period < 4:
        return 4
    return 3 if period < 16 else 2


def letters(text: str) -> str:
    """What of a text is compared with another's: letters and digits, in any case.

    Of a text that has none, such as an emoji, all but the spaces around it.
    """
    return re.sub(r"[\W_]+", "", text.casefold()) or text.strip()


@dataclass(frozen=True)
class Marks:
    """Tokens without a letter or digit."""

    breaks: frozenset[int]
    """Those with a line break in them, which may end a turn."""
    others: frozenset[int]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Marks:
        """Those of a vocabulary, given in the order of its ids."""
        breaks: list[int] = []
        others: list[int] = []
        for token, text in enumerate(texts):
            if not any(letter.isalnum() for letter in text):
                (breaks if "\n" in text else others).append(token)
        return cls(frozenset(breaks), frozenset(others))


@dataclass(frozen=True)
class ReplyGuard:
    """Which tokens a reply must not have next.

    `start_bans` would make it begin with its end or with somebody's label. `ends` are the tokens
    that end a turn. `previous` are the tokens of the assistant's earlier replies, and `said` their
    `letters`: a reply that is one of them so far does not end there, and goes on with a word, after
    one mark at most; this works as well when its words have been shown already. A long one is left
    after 8 equal tokens. `marks` is asked for only when a reply was said before.
    """

    start_bans: frozenset[int]
    ends: frozenset[int]
    previous: tuple[tuple[int, ...], ...]
    said: frozenset[str]
    marks: Callable[[], Marks]

    def bans(self, tokens: Sequence[int], text: str) -> set[int]:
        """Bans after `tokens`, the reply so far, which read as `text`."""
        if not tokens:
            return set(self.start_bans)
        bans = loop_bans(tokens)
        if self.said and letters(text) in self.said:
            marks = self.marks()
            bans |= self.start_bans | self.ends | marks.breaks
            if not text[-1:].isalnum():
                bans |= marks.others
        size = len(tokens)
        for reply in self.previous:
            if _SAME_REPLY <= size < len(reply) and tuple(tokens) == reply[:size]:
                bans.add(reply[size])
        return bans
