"""From a prompt to a reply: find the state, read what is new, draw tokens until the turn ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from lambda_inference.engine import Engine, State
from lambda_inference.errors import DeadlinePassed
from lambda_inference.states.cache import StateCache, prefix_keys
from lambda_inference.talk.guards import Marks, ReplyGuard, StopTexts, letters
from lambda_inference.talk.prompt import Prompt, PromptBuilder
from lambda_inference.talk.sampling import Sampler, SamplingSettings
from lambda_inference.talk.tokenizer import Tokenizer, Utf8Stream, decode

_PREFILL_CHUNK = 256  # tokens read between two looks at the clock
_ATTEMPTS = 3  # replies begun before one that only speaks for others is given up
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


@dataclass
class Usage:
    """Tokens of a request, counted as OpenAI does."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
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
    """Some more of the reply."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The reply's end. "length": by the token limit or the deadline."""

    reason: Literal["stop", "length"]
    usage: Usage
    timings: Timings


class ReplyText:
    """Bytes of tokens to the words a person sees: whole characters, no stop text, trimmed."""

    def __init__(self, stops: StopTexts) -> None:
        self._stops = stops
        self._utf8 = Utf8Stream()
        self._spaces = ""
        self.text = ""

    @property
    def stopped_by(self) -> str | None:
        """The stop text or label that ended the reply."""
        return self._stops.stopped_by

    def feed(self, data: bytes) -> str:
        """What `data` adds for sure."""
        return self._trim(self._stops.feed(self._utf8.feed(data)))

    def finish(self) -> str:
        """The rest. Half a character at the end is dropped."""
        return self._trim(self._stops.finish())

    def _trim(self, text: str) -> str:
        text = self._spaces + text if self.text else text.lstrip()
        out = text.rstrip()
        self._spaces = text[len(out) :]
        self.text += out
        return out


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

    def generate(
        self,
        request: GenerationRequest,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        timings: Timings | None = None,
    ) -> Iterator[TextDelta | Finished]:
        """The reply as it is made; the last event is `Finished`, unless it was cancelled.

        Raises:
            DeadlinePassed: the deadline came before the first word.
        """
        timings = timings or Timings()
        usage = Usage(prompt_tokens=request.prompt.length)
        started = time.perf_counter()
        read = self._prefill(request, usage, cancelled)
        timings.prefill_ms = (time.perf_counter() - started) * 1000
        if read is None:
            return
        started = time.perf_counter()
        guard = self._guard(request)
        sampler = Sampler(request.sampling, exempt=guard.ends)
        draft = _Draft(*read, ReplyText(self._stops(request)), guard.start_bans)
        for attempt in range(_ATTEMPTS):
            for delta in self._decode(draft, request, sampler, guard, cancelled):
                yield TextDelta(delta)
            usage.completion_tokens += len(draft.tokens)
            if draft.reason is None:
                return
            if draft.text.text or draft.text.stopped_by in (None, *request.stops):
                break
            # It began by speaking for somebody. Nothing was shown yet, so it begins anew.
            if attempt < _ATTEMPTS - 1:
                bans = draft.start_bans | {draft.tokens[0]}
                draft = _Draft(*read, ReplyText(self._stops(request)), bans)
                sampler.restart()
        self._remember(request.prompt, draft)
        timings.decode_ms = (time.perf_counter() - started) * 1000
        self._cache.settle(_settle_seconds(request))
        yield Finished(draft.reason or "stop", usage, timings)

    def _decode(
        self,
        draft: _Draft,
        request: GenerationRequest,
        sampler: Sampler,
        guard: ReplyGuard,
        cancelled: Callable[[], bool],
    ) -> Iterator[str]:
        """Draw tokens until the reply ends; `draft.reason` stays None if it was cancelled."""
        while draft.reason is None:
            if cancelled():
                return
            said = len(draft.tokens)
            if said >= request.max_tokens or (said and _late(request)):
                draft.reason = "length"
            else:
                logits = self._step(draft)
                text = draft.said.decode("utf-8", "ignore")
                bans = guard.bans(draft.tokens, text) if said else draft.start_bans
                token = sampler.sample(logits, bans)
                if token in guard.ends:
                    draft.reason = "stop"
                    break
                draft.tokens.append(token)
                draft.said += (data := self._tokenizer.token_bytes(token))
                if delta := draft.text.feed(data):
                    yield delta
                if draft.text.stopped_by is not None:
                    draft.reason = "stop"
        if delta := draft.text.finish():
            yield delta

    def _step(self, draft: _Draft) -> npt.NDArray[np.float32]:
        if draft.fed < len(draft.tokens):
            draft.logits, draft.state = self._engine.forward(draft.tokens[draft.fed :], draft.state)
            draft.fed = len(draft.tokens)
        return draft.logits

    def _stops(self, request: GenerationRequest) -> StopTexts:
        template = self._prompts.template
        return StopTexts(
            (*request.stops, template.separator),
            (*request.prompt.user_labels, template.assistant),
        )

    def _prefill(
        self, request: GenerationRequest, usage: Usage, cancelled: Callable[[], bool]
    ) -> tuple[npt.NDArray[np.float32], State] | None:
        """Logits and state after the assistant's label, or None if cancelled."""
        turns = request.prompt.turns
        keys = prefix_keys(self._key, turns)
        known, state = self._cache.longest(keys)
        if not known:
            state = self._start
        usage.cached_tokens = sum(map(len, turns[:known]))
        waiting: list[int] = []
        for place in range(known, len(turns)):
            waiting += turns[place]
            # The turn before the last one too: people edit and add to what they said last.
            late = place >= len(turns) - 2
            if late or len(waiting) >= _SNAPSHOT_TOKENS:
                for start in range(0, len(waiting), _PREFILL_CHUNK):
                    if _given_up(request, cancelled):
                        return None
                    _, state = self._engine.forward(waiting[start : start + _PREFILL_CHUNK], state)
                waiting = []
                assert state is not None
                self._cache.put(keys[place], state, share=place == len(turns) - 1)
        if _given_up(request, cancelled):
            return None
        return self._engine.forward(request.prompt.opening, state)

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

    def _remember(self, prompt: Prompt, draft: _Draft) -> None:
        """Keep the state after the reply, if the next request will write it in the same tokens.

        A model may spell a word in other tokens than the tokenizer would; the next prompt then
        differs from what the state has seen, and goes on from the turn before the reply instead.
        """
        words = self._prompts.template.words(draft.text.text)
        if not words or self._prompts.body(words) != tuple(draft.tokens):
            return
        state = draft.state
        if rest := (*draft.tokens[draft.fed :], *self._prompts.separator):
            _, state = self._engine.forward(rest, state)
        reply = (*prompt.opening, *draft.tokens, *self._prompts.separator)
        self._cache.put(prefix_keys(self._key, (*prompt.turns, reply))[-1], state)


@dataclass
class _Draft:
    """A reply in the making. `state` and `logits` are those after the first `fed` tokens."""

    logits: npt.NDArray[np.float32]
    state: State
    text: ReplyText
    start_bans: frozenset[int]
    tokens: list[int] = field(default_factory=list)
    said: bytearray = field(default_factory=bytearray)
    """The bytes of `tokens`."""
    fed: int = 0
    reason: Literal["stop", "length"] | None = None


def _late(request: GenerationRequest) -> bool:
    return request.deadline is not None and time.monotonic() >= request.deadline


def _settle_seconds(request: GenerationRequest) -> float:
    if request.deadline is None:
        return _SETTLE_SECONDS
    return min(_SETTLE_SECONDS, request.deadline - time.monotonic())


def _given_up(request: GenerationRequest, cancelled: Callable[[], bool]) -> bool:
    if _late(request):
        raise DeadlinePassed(
            "The time limit passed before the first word. Try again, or allow more time.",
            code="deadline_passed",
        )
    return cancelled()
