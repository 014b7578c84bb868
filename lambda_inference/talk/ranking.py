"""Which of several drafts of a reply answers best: pure functions of their tokens' probabilities.

A small model's likeliest replies are those that fit any talk ("I don't know."). So a draft is
judged by what the talk adds to it: its log-probability after the talk, less a part of the one it
would have after none, both over all its tokens with the one that ends it (the mutual information
of Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

WEIGHT = 0.5
"""How much of what a reply is worth by itself is taken off."""
LENGTH_POWER = 0.7
"""The sum is divided by the length to this power: 0 favours short replies, 1 a mean a token."""


class Flaw(IntEnum):
    """What is wrong with a draft; one with a smaller number is always better."""

    NONE = 0
    CUT_OFF = 1
    """The limit came before its end."""
    SAID_BEFORE = 2
    """It is one of the assistant's earlier replies."""
    EMPTY = 3


@dataclass(frozen=True)
class Candidate:
    """A draft, ready to be ranked."""

    words: str
    """Its text as it is compared with the others'; equal ones are the same reply."""
    score: float
    flaw: Flaw = Flaw.NONE


def log_probability(logits: npt.NDArray[np.float32], token: int) -> float:
    """Of `token` under `logits` [vocab_size], in nats; without temperature, bans and penalties."""
    top = logits.max()
    sum_ = np.exp(logits - top).sum(dtype=np.float64)
    return float(logits[token]) - float(top) - math.log(float(sum_))


def score(
    after_talk: Sequence[float],
    after_nothing: Sequence[float],
    *,
    weight: float = WEIGHT,
    length_power: float = LENGTH_POWER,
) -> float:
    """How well a reply answers, from the log-probabilities of its tokens; larger is better.

    `after_talk` are those after the conversation, `after_nothing` those after an empty one in the
    same template; both with the token that ends the reply. No tokens at all score lowest.
    """
    if not after_talk:
        return -math.inf
    gain = math.fsum(after_talk) - weight * math.fsum(after_nothing)
    return gain / math.pow(len(after_talk), length_power)


def ranked(candidates: Sequence[Candidate]) -> list[int]:
    """The places of `candidates`, the best first; of equal ones the first.

    Those that say the same as a better one come last: they are no choice beside it.
    """

    def key(place: int) -> tuple[int, float, int]:
        one = candidates[place]
        return one.flaw, math.inf if math.isnan(one.score) else -one.score, place

    order = sorted(range(len(candidates)), key=key)
    seen: set[str] = set()
    again: list[int] = []
    first: list[int] = []
    for place in order:
        words = candidates[place].words
        (again if words in seen else first).append(place)
        seen.add(words)
    return first + again
