"""Whether a model makes sense, as far as that can be counted: three measures beside the bits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

from finetuning.data.corpus import Conversation
from finetuning.data.talk_draws import PATTERNS
from finetuning.evaluation import memory, pick, who_am_i
from finetuning.evaluation.native_bits import bits_of_groups
from finetuning.evaluation.sampled import Script, converse
from finetuning.evaluation.score import Done, Spelled, row_name
from lambda_inference.settings import ServerSettings
from lambda_inference.talk.prompt import PromptBuilder

Measure = Literal["pick", "who", "memory"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

TIMES = 3
"""Answers that are drawn to each question about the character."""
FACTS = 42
"""Facts told for each number of exchanges between."""
_FEWEST = pick.OTHERS + 1  # conversations of a source that replies are picked from

BitsOfGroups = Callable[[Sequence[Sequence[Spelled]], Done], list[list[float]]]


def by_file(path: Path, threads: int | None) -> BitsOfGroups:
    """How surprised the engine is, from a model file."""
    return lambda groups, done: bits_of_groups(path, groups, done, threads=threads)


def in_one_go(bits: Callable[[Sequence[Spelled], Done], Sequence[float]]) -> BitsOfGroups:
    """The same of what reads every text from its beginning."""

    def of_groups(groups: Sequence[Sequence[Spelled]], done: Done) -> list[list[float]]:
        found = iter(bits(list(chain.from_iterable(groups)), done))
        return [[next(found) for _ in group] for group in groups]

    return of_groups


def pick_cases(conversations: Iterable[Conversation], *, seed: int) -> dict[str, list[pick.Case]]:
    """Cases of each source that has conversations enough, patterns of many left out."""
    by_name: dict[str, list[Conversation]] = defaultdict(list)
    for one in conversations:
        by_name[row_name(one)].append(one)
    return {
        name: pick.cases(some, seed=seed)
        for name, some in sorted(by_name.items())
        if len(some) >= _FEWEST and name != PATTERNS
    }


@dataclass(frozen=True, slots=True)
class Picking:
    """The cases of a source, and what a model has to read for them."""

    of: str
    cases: list[pick.Case]
    groups: list[list[Spelled]]

    @property
    def tokens(self) -> int:
        """Tokens of all its texts."""
        return sum(len(text.tokens) for group in self.groups for text in group)


def pickings(
    conversations: Iterable[Conversation], prompts: PromptBuilder, *, seed: int
) -> list[Picking]:
    """What picking takes, spelled once for every format."""
    found = pick_cases(conversations, seed=seed)
    return [Picking(name, cases, pick.groups(prompts, cases)) for name, cases in found.items()]


def picked(asked: Iterable[Picking], bits: BitsOfGroups, done: Done) -> list[dict[str, Any]]:
    """A row a source: how often the true reply is picked."""
    return [
        {"measure": "pick", "of": one.of} | pick.picked(one.cases, bits(one.groups, done))
        for one in asked
    ]


def answered(
    model: Path, settings: ServerSettings, *, seed: int, done: Callable[[], None]
) -> dict[str, Any]:
    """What the model says of itself."""
    asked = who_am_i.questions()
    said: list[Script] = [(one.asks,) for one in asked for _ in range(TIMES)]
    talks = converse(model, said, seed=seed, settings=settings, done=done)
    replies = [talk[-1].reply for talk in talks]
    by_question = [replies[at : at + TIMES] for at in range(0, len(replies), TIMES)]
    return {"measure": "who"} | who_am_i.judged(by_question)


def remembered(
    model: Path, settings: ServerSettings, *, seed: int, done: Callable[[], None]
) -> dict[str, Any]:
    """What the model remembers of what it was told."""
    told = memory.tellings(FACTS, seed=seed)
    talks = converse(model, [one.says for one in told], seed=seed, settings=settings, done=done)
    return {"measure": "memory"} | memory.judged(told, [talk[-1].reply for talk in talks])


def replies_needed() -> dict[Measure, int]:
    """How many replies a measure has the model make."""
    told = memory.tellings(FACTS)
    return {
        "who": len(who_am_i.questions()) * TIMES,
        "memory": sum(len(one.says) for one in told),
    }
