"""One reply in the making: its tokens, its text, and what is known of how well it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lambda_inference.engine import State
from lambda_inference.talk.events import Logits, Reason
from lambda_inference.talk.guards import ReplyGuard, StopTexts, letters
from lambda_inference.talk.ranking import Candidate, Flaw, log_probability, score
from lambda_inference.talk.sampling import Sampler, SamplingSettings
from lambda_inference.talk.tokenizer import Tokenizer, Utf8Stream

_ATTEMPTS = 3  # replies begun before one that only speaks for others is given up
_SEED_STEP = 0x9E3779B97F4A7C15  # between the seeds of two drafts of a request
_SPARE_TOKENS = 8  # that a draft may have beyond twice those of the longest that ended


@dataclass(frozen=True)
class Read:
    """Where the engine stands after some tokens."""

    logits: Logits
    state: State


@dataclass(frozen=True)
class Terms:
    """What all drafts of one reply have in common."""

    tokenizer: Tokenizer
    guard: ReplyGuard
    stops: Callable[[], StopTexts]
    request_stops: tuple[str, ...]
    sampling: SamplingSettings
    max_tokens: int
    after_talk: Read
    """After the conversation and the assistant's label."""
    after_nothing: Read | None = None
    """After the label alone; None where drafts are not compared."""


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


class Draft:
    """Fed by the engine and drawing from it, a token at a time."""

    def __init__(self, terms: Terms, place: int = 0) -> None:
        """`place` among the drafts of a request: each has a seed of its own, made of the one."""
        self._terms = terms
        self._sampler = Sampler(
            replace(terms.sampling, seed=seed_of(terms.sampling.seed, place)),
            exempt=terms.guard.ends,
        )
        self._attempt = 0
        self.drawn = 0
        """Tokens in all attempts."""
        self._begin(terms.guard.start_bans)

    def _begin(self, bans: frozenset[int]) -> None:
        self._start_bans = bans
        self._attempt += 1
        self._said = bytearray()
        self._reads = [self._terms.after_talk]
        if self._terms.after_nothing is not None:
            self._reads.append(self._terms.after_nothing)
        self._log_probabilities: list[list[float]] = [[] for _ in self._reads]
        self.text = ReplyText(self._terms.stops())
        self.tokens: list[int] = []
        self.fed = 0
        """Of `tokens`, those that `state` has seen."""
        self.reason: Reason | None = None
        """Why it ended; None while it goes on."""

    @property
    def state(self) -> State:
        """The engine's, after the first `fed` tokens."""
        return self._reads[0].state

    @property
    def unread(self) -> list[int]:
        """Tokens that the engine must read before the next is drawn."""
        return self.tokens[self.fed :]

    @property
    def states(self) -> list[State]:
        """Those that must read them: after the talk and, to compare drafts, after nothing."""
        return [read.state for read in self._reads]

    def read(self, rows: Sequence[Logits], states: Sequence[State]) -> None:
        """Take what the engine gave for `unread`, in the order of `states`."""
        self._reads = [Read(row, state) for row, state in zip(rows, states, strict=True)]
        self.fed = len(self.tokens)

    def draw(self) -> str:
        """Draw the next token; gives what it adds to the text for sure."""
        guard = self._terms.guard
        text = self._said.decode("utf-8", "ignore")
        bans = guard.bans(self.tokens, text) if self.tokens else self._start_bans
        token = self._sampler.sample(self._reads[0].logits, bans)
        if len(self._reads) > 1:
            for read, so_far in zip(self._reads, self._log_probabilities, strict=True):
                so_far.append(log_probability(read.logits, token))
        if token in guard.ends:
            return self.end("stop")
        self.tokens.append(token)
        self.drawn += 1
        self._said += (data := self._terms.tokenizer.token_bytes(token))
        delta = self.text.feed(data)
        return delta + self.end("stop") if self.text.stopped_by is not None else delta

    def end(self, reason: Reason) -> str:
        """End it; gives the rest of the text.

        One that began by speaking for somebody has shown nothing yet, and begins anew.
        """
        delta = self.text.finish()
        self.reason = reason
        silent = not self.text.text and self.text.stopped_by not in (
            None,
            *self._terms.request_stops,
        )
        if silent and self._attempt < _ATTEMPTS:
            self._begin(self._start_bans | {self.tokens[0]})
            self._sampler.restart()
        return delta

    def candidate(self) -> Candidate:
        """What the ranking needs to know."""
        words = letters(self.text.text)
        flaw = Flaw.NONE
        if not words:
            flaw = Flaw.EMPTY
        elif words in self._terms.guard.said:
            flaw = Flaw.SAID_BEFORE
        elif self.reason != "stop":
            flaw = Flaw.CUT_OFF
        talk, *nothing = self._log_probabilities
        return Candidate(words, score(talk, *nothing) if nothing else 0.0, flaw)


def seed_of(seed: int | None, place: int) -> int | None:
    """The seed of a request's draft; the first one's is the request's own."""
    return None if seed is None else (seed + place * _SEED_STEP) % 2**64


def stragglers(drafts: Sequence[Draft]) -> list[Draft]:
    """Drafts to wait for no longer.

    Once half have ended by themselves, that is those with more than twice the tokens of the
    longest of them: everybody waits for the last draft, and one in a loop would be it.
    """
    ended = [len(draft.tokens) for draft in drafts if draft.reason == "stop"]
    if len(ended) * 2 < len(drafts):
        return []
    most = 2 * max(ended) + _SPARE_TOKENS
    return [draft for draft in drafts if draft.reason is None and len(draft.tokens) >= most]
