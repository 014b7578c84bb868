"""From a prompt to a reply: find the state, read what is new, draw tokens until the turn ends.

A reply may be the best of several drafts. They share the prompt's state and are decoded together,
so that the weights are read once for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as MakeSteps
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from lambda_inference.engine import Engine, State
from lambda_inference.errors import DeadlinePassed
from lambda_inference.states.cache import StateCache, prefix_keys
from lambda_inference.talk.draft import Draft, Read, Terms, stragglers
from lambda_inference.talk.events import (
    Event,
    Fed,
    Feed,
    Finished,
    Logits,
    Steps,
    TextDelta,
    Timings,
    Usage,
    alone,
)
from lambda_inference.talk.guards import Marks, ReplyGuard, StopTexts, letters
from lambda_inference.talk.prompt import Prompt, PromptBuilder
from lambda_inference.talk.ranking import ranked
from lambda_inference.talk.sampling import SamplingSettings
from lambda_inference.talk.tokenizer import Tokenizer, decode

_PREFILL_CHUNK = 256  # tokens read between two looks at the clock
_SETTLE_SECONDS = 2.0  # after the last word, for the shared store to have the state
_SNAPSHOT_TOKENS = 64  # tokens read between two states kept while a long prompt is read


@dataclass(frozen=True)
class GenerationRequest:
    """What to say next, and how."""

    prompt: Prompt
    sampling: SamplingSettings
    max_tokens: int
    stops: tuple[str, ...] = ()
    deadline: float | None = None
    """`time.monotonic()` at which the reply ends with what there is; None never."""
    choices: int = 1
    """Replies to give, the best first."""
    drafts: int = 1
    """Replies to make, of which those are the best; at least `choices`."""


@dataclass(frozen=True)
class _Job:
    """A request under way."""

    request: GenerationRequest
    cancelled: Callable[[], bool]
    usage: Usage
    timings: Timings
    keys: list[str] = field(default_factory=list)
    """Of the prompt's turns, in the state cache."""
    known: int = 0
    """Turns that the cache saved."""
    state: State | None = None
    """After those."""

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        deadline = self.request.deadline
        return deadline is not None and time.monotonic() >= deadline


T = TypeVar("T")
_Steps = MakeSteps[Feed | Event, Fed | None, T]
"""A part of `Steps` that gives a T."""


class Generator:
    """Replies from one loaded model. Safe to use from several threads."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        prompts: PromptBuilder,
        cache: StateCache,
        *,
        key: str,
        start: State | None = None,
    ) -> None:
        """`key` names the weights, the engine and the start in the state cache.

        `start` is the state before the first token; None is the empty one.
        """
        self._engine = engine
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._cache = cache
        self._key = key
        self._start = start
        self._after_nothing: Read | None = None

    def generate(
        self,
        request: GenerationRequest,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        timings: Timings | None = None,
        drive: Callable[[Steps], Iterator[Event]] | None = None,
    ) -> Iterator[Event]:
        """The reply as it is made; the last event is `Finished`, unless it was cancelled.

        `drive` runs its steps, beside others' perhaps; None gives it the engine alone. With several
        drafts the words come when the best is known.

        Raises:
            DeadlinePassed: the deadline came before the first word.
        """
        steps = self._steps(self._begin(request, cancelled, timings or Timings()))
        for event in alone(self._engine, steps) if drive is None else drive(steps):
            if isinstance(event, Finished):
                self._cache.settle(_settle_seconds(request))
            yield event

    def _begin(
        self, request: GenerationRequest, cancelled: Callable[[], bool], timings: Timings
    ) -> _Job:
        """Find the state to go on from. This may wait for a shared store, so no step does it."""
        turns = request.prompt.turns
        started = time.perf_counter()
        keys = prefix_keys(self._key, turns)
        known, state = self._cache.longest(keys)
        timings.prefill_ms = (time.perf_counter() - started) * 1000
        usage = Usage(request.prompt.length, cached_tokens=sum(map(len, turns[:known])))
        return _Job(
            request, cancelled, usage, timings, keys, known, state if known else self._start
        )

    def _steps(self, job: _Job) -> Steps:
        request, timings = job.request, job.timings
        started = time.perf_counter()
        terms = yield from self._prefill(job)
        timings.prefill_ms += (time.perf_counter() - started) * 1000
        if terms is None:
            return
        started = time.perf_counter()
        drafts = [Draft(terms, place) for place in range(request.drafts)]
        done = yield from self._decode(job, drafts)
        job.usage.completion_tokens = sum(draft.drawn for draft in drafts)
        if not done:
            return
        chosen = drafts
        if len(drafts) > 1:
            order = ranked([draft.candidate() for draft in drafts])[: request.choices]
            chosen = [drafts[place] for place in order]
            for choice, draft in enumerate(chosen):
                if draft.text.text:
                    yield TextDelta(draft.text.text, choice)
        for draft in chosen:
            yield from self._remember(request.prompt, draft)
        timings.decode_ms = (time.perf_counter() - started) * 1000
        first, *others = (draft.reason or "stop" for draft in chosen)
        yield Finished(first, job.usage, timings, tuple(others))

    def _decode(self, job: _Job, drafts: Sequence[Draft]) -> _Steps[bool]:
        """Draw tokens until all drafts have ended; False if it was cancelled before."""
        while going := [draft for draft in drafts if draft.reason is None]:
            if job.cancelled():
                return False
            late = job.late
            for draft in going:
                said = len(draft.tokens)
                if said >= job.request.max_tokens or (said and late):
                    yield from _shown(draft.end("length"), drafts)
            for draft in stragglers(drafts):
                draft.end("length")
            going = [draft for draft in going if draft.reason is None]
            if reading := [draft for draft in going if draft.unread]:
                fed = yield Feed(
                    [draft.unread for draft in reading for _ in draft.states],
                    [state for draft in reading for state in draft.states],
                )
                assert fed is not None
                at = 0
                for draft in reading:
                    end = at + len(draft.states)
                    draft.read(fed[0][at:end], fed[1][at:end])
                    at = end
            for draft in going:
                yield from _shown(draft.draw(), drafts)
        return True

    def _prefill(self, job: _Job) -> _Steps[Terms | None]:
        """Read the prompt and the assistant's label; None if it was cancelled before."""
        request, state = job.request, job.state
        turns = request.prompt.turns
        waiting: list[int] = []
        for place in range(job.known, len(turns)):
            waiting += turns[place]
            # The turn before the last one too: people edit and add to what they said last.
            late = place >= len(turns) - 2
            if late or len(waiting) >= _SNAPSHOT_TOKENS:
                for start in range(0, len(waiting), _PREFILL_CHUNK):
                    if _given_up(job):
                        return None
                    _, state = yield from _read(waiting[start : start + _PREFILL_CHUNK], state)
                waiting = []
                assert state is not None
                self._cache.put(job.keys[place], state, share=place == len(turns) - 1)
        if _given_up(job):
            return None
        read = yield from _read(request.prompt.opening, state)
        nothing: Read | None = None
        if request.drafts > 1:
            if self._after_nothing is None:
                opening = (*self._prompts.start, *self._prompts.label)
                self._after_nothing = Read(*(yield from _read(opening, self._start)))
            nothing = self._after_nothing
        return Terms(
            self._tokenizer, self._guard(request), lambda: self._stops(request), request.stops,
            request.sampling, request.max_tokens, Read(*read), nothing,
        )  # fmt: skip

    def _stops(self, request: GenerationRequest) -> StopTexts:
        template = self._prompts.template
        return StopTexts(
            (*request.stops, template.separator),
            (*request.prompt.user_labels, template.assistant),
        )

    def _guard(self, request: GenerationRequest) -> ReplyGuard:
        prompts, prompt = self._prompts, request.prompt
        labels = [*prompt.user_labels, prompts.template.assistant]
        spelled = [prompts.tokens(label) for label in labels]
        ends = {label[0] for label in (*spelled, prompts.separator) if len(label) == 1}
        if prompts.end_of_text is not None:
            ends.add(prompts.end_of_text)
        # A label of several tokens begins with a word ("User", ":"), which as the first word of a
        # reply can hardly be anything but the label.
        firsts = {
            words[0]
            for label in labels
            for words in (prompts.tokens(label), prompts.body(label))
            if self._tokenizer.token_bytes(words[0]).decode("utf-8", "replace").strip()
            in (label, label.rstrip(":"))
        }
        return ReplyGuard(
            frozenset(ends | firsts),
            frozenset(ends),
            prompt.previous_replies,
            frozenset(letters(decode(self._tokenizer, one)) for one in prompt.previous_replies),
            lambda: self._marks,
        )

    @cached_property
    def _marks(self) -> Marks:
        read = self._tokenizer.token_bytes
        return Marks.of(
            read(token).decode("utf-8", "ignore") for token in range(self._tokenizer.vocab_size)
        )

    def _remember(self, prompt: Prompt, draft: Draft) -> _Steps[None]:
        """Keep the state after the reply, if the next request will write it in the same tokens.

        A model may spell a word in other tokens than the tokenizer would; the next prompt then
        differs from what the state has seen, and goes on from the turn before the reply instead.
        """
        words = self._prompts.template.words(draft.text.text)
        if not words or self._prompts.body(words) != tuple(draft.tokens):
            return
        state: State | None = draft.state
        if rest := (*draft.unread, *self._prompts.separator):
            _, state = yield from _read(rest, state)
        reply = (*prompt.opening, *draft.tokens, *self._prompts.separator)
        assert state is not None
        self._cache.put(prefix_keys(self._key, (*prompt.turns, reply))[-1], state)


def _read(tokens: Sequence[int], state: State | None) -> _Steps[tuple[Logits, State]]:
    """One sequence."""
    fed = yield Feed([tokens], [state])
    assert fed is not None
    return fed[0][0], fed[1][0]


def _shown(delta: str, drafts: Sequence[Draft]) -> _Steps[None]:
    """What a draft adds, at once if it is the only one."""
    if delta and len(drafts) == 1:
        yield TextDelta(delta)


def _settle_seconds(request: GenerationRequest) -> float:
    if request.deadline is None:
        return _SETTLE_SECONDS
    return min(_SETTLE_SECONDS, request.deadline - time.monotonic())


def _given_up(job: _Job) -> bool:
    if job.late:
        raise DeadlinePassed(
            "The time limit passed before the first word. Try again, or allow more time.",
            code="deadline_passed",
        )
    return job.cancelled()
