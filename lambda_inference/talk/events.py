"""What a reply in the making asks of the engine, and what it tells the person who waits."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lambda_inference.engine import Engine, State

Reason = Literal["stop", "length"]
Logits = npt.NDArray[np.float32]


@dataclass
class Usage:
    """Tokens of a request, counted as OpenAI does."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Of all drafts, also of those that were not chosen."""
    cached_tokens: int = 0
    """Of the prompt's, those that the state cache saved."""


@dataclass
class Timings:
    """Where the time went, milliseconds."""

    queue_ms: float = 0.0
    load_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0


@dataclass(frozen=True)
class TextDelta:
    """Some more of a reply."""

    text: str
    choice: int = 0
    """Which reply, where several were asked for; 0 is the best."""


@dataclass(frozen=True)
class Finished:
    """The end. "length": by the token limit or the deadline."""

    reason: Reason
    usage: Usage
    timings: Timings
    others: tuple[Reason, ...] = ()
    """Why the other choices ended, where several replies were asked for."""

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Of all choices."""
        return self.reason, *self.others


@dataclass(frozen=True)
class Feed:
    """Sequences to be read, each after its state; answered with their last logits and states."""

    tokens: Sequence[Sequence[int]]
    states: Sequence[State | None]


Event = TextDelta | Finished
Fed = tuple[Sequence[Logits], Sequence[State]]
Steps = Generator[Feed | Event, Fed | None, None]
"""A reply being made: takes what it asked for by a `Feed`, None after every other event."""


def alone(engine: Engine, steps: Steps) -> Iterator[Event]:
    """The events of a reply that has the engine to itself."""
    answer: Fed | None = None
    try:
        while True:
            event = steps.send(answer)
            answer = None
            if isinstance(event, Feed):
                rows, states = engine.forward_batch(event.tokens, event.states)
                answer = list(rows), states
            else:
                yield event
    except StopIteration:
        return
    finally:
        steps.close()
