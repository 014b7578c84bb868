"""Pick the reply: the true one among nineteen that somebody gave in other conversations.

A reply's score is what the talk tells of it: log p(reply | talk) - log p(reply | nothing), the
pointwise mutual information, so that a reply that fits everywhere wins nowhere (Li et al. 2016,
arXiv:1510.03055). Counted is how often the true reply has the highest one; chance is 5%.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetuning.data.corpus import Conversation
from finetuning.errors import EvaluationError
from finetuning.evaluation.score import Spelled
from lambda_inference.talk.prompt import PromptBuilder

OTHERS = 19
CASES = 400
"""Replies that are looked for, at most."""

Bits = Callable[[Sequence[Spelled]], Sequence[float]]
"""Bits of the counted tokens of each text, by some model."""


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
        found.append(Case(conversations[number].turns[:turn], (true, *others)))
    return found


def spelled(prompts: PromptBuilder, before: Sequence[str], reply: str) -> Spelled:
    """A conversation with `reply` at its end, of which that and its end are counted."""
    template = prompts.template
    labels = [prompts.tokens(label) for label in (template.user, template.assistant)]
    tokens = list(prompts.start)
    for index, turn in enumerate(before):
        tokens += [*labels[index % 2], *prompts.body(template.words(turn)), *prompts.separator]
    tokens += labels[1]
    known = len(tokens)
    tokens += [*prompts.body(template.words(reply)), *prompts.separator]
    return Spelled(np.array(tokens, np.int32), np.arange(len(tokens)) >= known)


def texts(prompts: PromptBuilder, asked: Sequence[Case]) -> list[Spelled]:
    """What a model has to read: each reply after its talk, then each reply after nothing."""
    after = [spelled(prompts, one.before, reply) for one in asked for reply in one.replies]
    alone = [spelled(prompts, (), reply) for one in asked for reply in one.replies]
    return [*after, *alone]


def picked(asked: Sequence[Case], bits: Sequence[float]) -> dict[str, Any]:
    """The share of the cases whose true reply has the highest score. `bits`: those of `texts`."""
    after, alone = np.array(bits, np.float64).reshape(2, len(asked), -1)
    scores = alone - after
    place = (scores[:, 1:] >= scores[:, :1]).sum(axis=1)
    return {
        "cases": len(asked),
        "candidates": OTHERS + 1,
        "hits_at_1": round(float(np.mean(place == 0)), 4),
        "mean_reciprocal_rank": round(float(np.mean(1 / (place + 1))), 4),
    }
