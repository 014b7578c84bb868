"""What sampled conversations are like, in numbers: variety, repetition, length, language, manners.

Two replies are the same if their letters and digits are, in any case. A word is a run of letters,
with apostrophes inside. No number here says that a reply makes sense.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finetuning.evaluation.sampled import Exchange
from lambda_inference.talk.guards import letters

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_MOSTLY = 0.9  # of a reply's characters that must be ASCII for English
_KNOWN = 0.5  # of its words that must be known
_LABELS = ("User:", "Human:", "Friend:", "Assistant:")
_GRAM = 4  # words whose repetition counts


@dataclass(frozen=True, slots=True)
class Lengths:
    """Words a reply."""

    least: int
    tenth: int
    median: int
    mean: float
    ninetieth: int
    most: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of all replies of all conversations. Shares are between 0 and 1."""

    conversations: int
    replies: int
    spoken_for_user: int
    """Replies with somebody's label or a line break in them."""
    repeated_replies: int
    """Replies that are an earlier one of their conversation."""
    not_english: int
    """Replies less than 90% ASCII, or half of whose words are not in the data."""
    empty_replies: int
    cut_off: int
    """Replies ended by the limit of tokens."""
    distinct_replies: float
    """Different replies of all conversations, of all."""
    distinct_1: float
    """Different words, of all words."""
    distinct_2: float
    distinct_3: float
    repeated_4_grams: float
    """Four words in a row that the conversation's replies had before, of all."""
    ascii_characters: float
    known_words: float
    """Words that the data has too, of all."""
    words: Lengths

    def as_json(self) -> dict[str, Any]:
        """Rounded, for JSON."""
        return _rounded(asdict(self))


def words_of(text: str) -> list[str]:
    """Its words in lower case."""
    return _WORD.findall(text.replace("\u2019", "'").casefold())


def statistics(
    conversations: Sequence[Sequence[Exchange]],
    known: Collection[str],
    labels: Iterable[str] = _LABELS,
) -> Statistics:
    """Count. `known` are words of the language; `labels` those that a reply must not write."""
    replies = [exchange.reply for one in conversations for exchange in one]
    spelled = [words_of(reply) for reply in replies]
    label = re.compile(
        r"\n|(?<!\w)(?:" + "|".join(re.escape(text.rstrip(": ")) for text in labels) + r")\s*:",
        re.IGNORECASE,
    )
    text = "".join(replies)
    said = [word for words in spelled for word in words]
    return Statistics(
        conversations=len(conversations),
        replies=len(replies),
        spoken_for_user=sum(label.search(reply) is not None for reply in replies),
        repeated_replies=sum(map(_repeated, conversations)),
        not_english=sum(
            not _is_english(reply, words, known)
            for reply, words in zip(replies, spelled, strict=True)
        ),
        empty_replies=sum(not reply.strip() for reply in replies),
        cut_off=sum(exchange.cut_off for one in conversations for exchange in one),
        distinct_replies=_share(len({letters(reply) for reply in replies}), len(replies)),
        distinct_1=_distinct(spelled, 1),
        distinct_2=_distinct(spelled, 2),
        distinct_3=_distinct(spelled, 3),
        repeated_4_grams=_repeated_grams(conversations),
        ascii_characters=_share(sum(map(str.isascii, text)), len(text)),
        known_words=_share(sum(word in known for word in said), len(said)),
        words=_lengths(sorted(map(len, spelled))),
    )


def _repeated(conversation: Sequence[Exchange]) -> int:
    said = [letters(exchange.reply) for exchange in conversation if exchange.reply.strip()]
    return len(said) - len(set(said))


def _is_english(reply: str, words: Sequence[str], known: Collection[str]) -> bool:
    if sum(map(str.isascii, reply)) < _MOSTLY * len(reply):
        return False
    return sum(word in known for word in words) >= _KNOWN * len(words)


def _grams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]


def _distinct(replies: Iterable[Sequence[str]], size: int) -> float:
    grams = [gram for words in replies for gram in _grams(words, size)]
    return _share(len(set(grams)), len(grams))


def _repeated_grams(conversations: Iterable[Sequence[Exchange]]) -> float:
    total = different = 0
    for conversation in conversations:
        grams = [gram for one in conversation for gram in _grams(words_of(one.reply), _GRAM)]
        total += len(grams)
        different += len(set(grams))
    return _share(total - different, total)


def _lengths(ordered: Sequence[int]) -> Lengths:
    def at(share: float) -> int:
        return ordered[round(share * (len(ordered) - 1))] if ordered else 0

    return Lengths(at(0), at(0.1), at(0.5), _share(sum(ordered), len(ordered)), at(0.9), at(1))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _rounded(value)
        if isinstance(value, dict)
        else round(value, 4)
        if isinstance(value, float)
        else value
        for name, value in values.items()
    }
