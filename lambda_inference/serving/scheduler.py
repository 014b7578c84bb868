"""Many replies at once: the engine's steps, each with a token or more of whoever waits for it.

A reply that has the engine to itself is made in the thread that asks for it. As soon as there are
others, one thread runs the steps of all of them. Before each step it lets every reply draw from
what the last one gave, so replies join and leave between two steps, and a slow client or one that
went away keeps nobody waiting. A step takes the next token of every reply that is being written,
and as much of the prompts as leaves the words flowing; so a long prompt is read in slices.

What a reply gets does not depend on who is beside it: the engine gives every sequence the same bits
in any company (`Engine.forward_batch`).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lambda_inference.engine import Engine, State
from lambda_inference.talk.events import Event, Fed, Feed, Logits, Steps

_STEP_SECONDS = 0.08  # that a step may take while somebody is reading words
_MOST_TOKENS = 128  # of prompts in a step: one pass of the engine
_LEAST_TOKENS = 16  # of prompts in a step, however slow the machine
_LEAST_SLICE = 8  # of a prompt; fewer, and the oldest alone go on
_FIRST_GUESS = 1 / 200  # seconds a token of a prompt takes, before it was measured


@dataclass
class Load:
    """What the engine was busy with; only ever grows."""

    steps: int = 0
    sequences: int = 0
    """In all steps; divided by them, the mean size of a batch."""
    tokens: int = 0
    """Read, of prompts and of replies."""
    seconds: float = 0.0
    """Spent in steps."""


class Scheduler:
    """Runs the steps of many replies on one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._arrived: list[_Job] = []
        self._working = False
        """Whether the thread that serves many is running."""
        self._single = False
        """Whether a reply is being made by itself."""
        self._token_seconds = _FIRST_GUESS
        self.load = Load()

    def run(self, steps: Steps, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """The events of a reply, made beside the others. Leaving the iterator ends it."""
        job = _Job(steps, cancelled)
        try:
            if self._begin_single():
                yield from self._make_single(job)
            if not job.done:
                self._join(job)
                while (event := job.events.get()) is not None:
                    if isinstance(event, Exception):
                        raise event
                    yield event
        finally:
            job.left = True

    def _begin_single(self) -> bool:
        with self._lock:
            if self._working or self._single:
                return False
            self._single = True
            return True

    def _make_single(self, job: _Job) -> Iterator[Event]:
        """Until it ends, or until there are others to be made with."""
        shared = False
        try:
            while not (job.done or self._working):
                job.advance()
                while not job.events.empty():
                    event = job.events.get()
                    if isinstance(event, Exception):
                        raise event
                    if event is not None:
                        yield event
                if job.rows and not self._working:
                    self._step([job])
            shared = not job.done
        finally:
            with self._lock:
                self._single = False
            if not shared:
                job.close()

    def _join(self, job: _Job) -> None:
        with self._lock:
            self._arrived.append(job)
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="decode", daemon=True).start()

    def _work(self) -> None:
        jobs: list[_Job] = []
        while True:
            with self._lock:
                jobs += self._arrived
                self._arrived.clear()
                if not jobs:
                    self._working = False
                    return
            try:
                for job in jobs:
                    job.advance()
                self._step([job for job in jobs if job.rows])
            except Exception as error:  # noqa: BLE001
                for job in jobs:
                    job.fail(error)
            jobs = [job for job in jobs if not job.done]

    def _step(self, jobs: Sequence[_Job]) -> None:
        rows = [row for job in jobs for row in job.rows if row.left]
        if not rows:
            return
        sizes = shares([row.left for row in rows], self._budget(rows))
        chosen = [(row, size) for row, size in zip(rows, sizes, strict=True) if size]
        started = time.perf_counter()
        try:
            self._forward(chosen)
        except Exception:
            if len(jobs) == 1:
                raise
            # Whoever's fault it is, the others are answered.
            for job in jobs:
                mine = [(row, size) for row, size in chosen if row in job.rows]
                try:
                    self._forward(mine)
                except Exception as own:  # noqa: BLE001
                    job.fail(own)
        self._note(chosen, time.perf_counter() - started)

    def _forward(self, chosen: Sequence[tuple[_Row, int]]) -> None:
        if not chosen:
            return
        logits, states = self._engine.forward_batch(
            [row.next(size) for row, size in chosen], [row.state for row, _ in chosen]
        )
        for (row, size), after, state in zip(chosen, logits, states, strict=True):
            row.read(size, after, state)

    def _budget(self, rows: Sequence[_Row]) -> int:
        """Tokens of prompts in the next step."""
        words = sum(row.left == 1 for row in rows)
        if not words:
            return _MOST_TOKENS
        fitting = int(_STEP_SECONDS / self._token_seconds) - words
        return max(_LEAST_TOKENS, min(_MOST_TOKENS, fitting))

    def _note(self, chosen: Sequence[tuple[_Row, int]], seconds: float) -> None:
        tokens = sum(size for _, size in chosen)
        with self._lock:
            if tokens >= _LEAST_TOKENS:
                self._token_seconds += (seconds / tokens - self._token_seconds) / 4
            self.load.steps += 1
            self.load.sequences += len(chosen)
            self.load.tokens += tokens
            self.load.seconds += seconds


def shares(left: Sequence[int], budget: int) -> list[int]:
    """How many of its `left` tokens each sequence reads in a step.

    One that has a single token left always does: it is the next word of a reply, or the end of a
    prompt. The others share `budget` evenly, the oldest (they come first) before the rest where
    it is short.
    """
    out = [int(tokens == 1) for tokens in left]
    long = [place for place, tokens in enumerate(left) if tokens > 1]
    while budget > 0 and (open_ := [place for place in long if out[place] < left[place]]):
        share = max(_LEAST_SLICE, budget // len(open_))
        for place in open_:
            size = min(share, left[place] - out[place], budget)
            out[place] += size
            budget -= size
    return out


class _Row:
    """A sequence that is being read."""

    def __init__(self, tokens: Sequence[int], state: State | None) -> None:
        self._tokens = tokens
        self._at = 0
        self.state = state
        self.logits: Logits | None = None

    @property
    def left(self) -> int:
        """Tokens still to be read."""
        return len(self._tokens) - self._at

    def next(self, size: int) -> Sequence[int]:
        """The next `size` of them."""
        return self._tokens[self._at : self._at + size]

    def read(self, size: int, logits: Logits, state: State) -> None:
        """Note that they were read."""
        self._at += size
        self.logits, self.state = logits, state


class _Job:
    """A reply under way: its steps, what they wait for, and what they have said."""

    def __init__(self, steps: Steps, cancelled: Callable[[], bool]) -> None:
        self._steps = steps
        self._cancelled = cancelled
        self.rows: list[_Row] = []
        self.events: queue.SimpleQueue[Event | Exception | None] = queue.SimpleQueue()
        self.left = False
        """Whether nobody listens any more."""
        self.done = False

    def advance(self) -> None:
        """Run the steps up to the next that needs the engine, if it has done the last."""
        if self.done:
            return
        if self.left or self._cancelled():
            self._end(None)
            return
        if any(row.left for row in self.rows):
            return
        answer = self._answer()
        try:
            while True:
                event = self._steps.send(answer)
                if isinstance(event, Feed):
                    self.rows = [
                        _Row(tokens, state)
                        for tokens, state in zip(event.tokens, event.states, strict=True)
                    ]
                    return
                answer = None
                self.events.put(event)
        except StopIteration:
            self._end(None)
        except Exception as error:  # noqa: BLE001
            self._end(error)

    def fail(self, error: Exception) -> None:
        """End it with what went wrong in the engine."""
        if not self.done:
            self._end(error)

    def close(self) -> None:
        """End it without a word, where no thread has it."""
        self.done = True
        self._steps.close()

    def _answer(self) -> Fed | None:
        if not self.rows:
            return None
        logits: list[Logits] = []
        states: list[State] = []
        for row in self.rows:
            assert row.logits is not None
            assert row.state is not None
            logits.append(row.logits)
            states.append(row.state)
        self.rows = []
        return logits, states

    def _end(self, last: Exception | None) -> None:
        self.done = True
        self.rows = []
        self._steps.close()
        self.events.put(last)
