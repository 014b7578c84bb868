"""Pick the reply: the true one among nineteen that somebody gave in other conversations.

A reply's score is what the talk tells of it: log p(reply | talk) - log p(reply | nothing), the
pointwise mutual information, so that a reply that fits everywhere wins nowhere (Li et al. 2016,
arXiv:1510.03055). Counted is how often the true reply has the highest one; chance is 5%.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetuning.data.corpus import Conversation
from finetuning.errors import EvaluationError
from finetuning.evaluation.score import Spelled, spell_turns
from lambda_inference.talk.prompt import PromptBuilder

OTHERS = 19
CASES = 250
"""Replies that are looked for, at most."""
BEFORE = 8
"""Turns of the talk that are given, at most."""


@dataclass(frozen=True, slots=True)
class Case:
    """What was said before, the true reply, and the others."""

    before: tuple[str, ...]
    replies: tuple[str, ...]
    """The true one first."""


def cases(conversations: Sequence[Conversation], *, seed: int = 0) -> list[Case]:
    """Up to CASES second speaker's turns, each with other conversations' replies.

    Raises:
        EvaluationError: too few conversations to take other replies from.
    """
    random = np.random.default_rng([seed, 2])
    places = [
        (number, turn)
        for number, one in enumerate(conversations)
        for turn in range(1, len(one.turns), 2)
    ]
    drawn = [places[at] for at in random.permutation(len(places))]
    found: list[Case] = []
    for number, turn in drawn[:CASES]:
        true = conversations[number].turns[turn]
        others: list[str] = []
        for at in random.permutation(len(places)):
            elsewhere, place = places[at]
            other = conversations[elsewhere].turns[place]
            if elsewhere != number and other != true and other not in others:
                others.append(other)
            if len(others) == OTHERS:
                break
        if len(others) < OTHERS:
            raise EvaluationError(
                f"Picking a reply takes {OTHERS} others, and the data holds {len(others)}. "
                "Bring more conversations."
            )
        first = max(0, turn - BEFORE + (turn - BEFORE) % 2)  # the user's
        found.append(Case(conversations[number].turns[first:turn], (true, *others)))
    return found


def spelled(prompts: PromptBuilder, before: Sequence[str], reply: str) -> Spelled:
    """A conversation with `reply` at its end, of which that and its end are counted."""
    said = [(index % 2 == 1, turn, False) for index, turn in enumerate(before)]
    return spell_turns(prompts, [*said, (True, reply, True)])


def groups(prompts: PromptBuilder, asked: Sequence[Case]) -> list[list[Spelled]]:
    """What a model has to read: a group a case of each reply after its talk, then after nothing."""
    befores = [one.before for one in asked] + [()] * len(asked)
    replies = [one.replies for one in asked] * 2
    return [
        [spelled(prompts, before, reply) for reply in some]
        for before, some in zip(befores, replies, strict=True)
    ]


def picked(asked: Sequence[Case], bits: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The share of the cases whose true reply has the highest score. `bits`: those of `groups`."""
    after, alone = np.array(bits, np.float64).reshape(2, len(asked), -1)
    scores = alone - after
    place = (scores[:, 1:] >= scores[:, :1]).sum(axis=1)
    return {
        "cases": len(asked),
        "candidates": OTHERS + 1,
        "hits_at_1": round(float(np.mean(place == 0)), 4),
        "mean_reciprocal_rank": round(float(np.mean(1 / (place + 1))), 4),
    }
