"""Replies side by side: who reads how much in a step, who joins and leaves, who fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_inference.engine import Engine, State
from lambda_inference.serving.host import LoadedModel
from lambda_inference.serving.scheduler import Scheduler, shares
from lambda_inference.talk.events import Feed, Finished, Steps, TextDelta, Timings, Usage
from lambda_inference.talk.generate import GenerationRequest
from lambda_inference.talk.prompt import Message
from lambda_inference.talk.sampling import SamplingSettings


class Watched:
    """An engine whose steps a test sees, and can hold up."""

    def __init__(self, engine: Engine, *, poison: int | None = None) -> None:
        self._engine = engine
        self._poison = poison
        self.batches: list[list[int]] = []
        """The tokens that each sequence of each step read."""
        self.go = threading.Event()
        self.go.set()
        self.waits = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def forward_batch(
        self, tokens: Sequence[Sequence[int]], states: Sequence[State | None]
    ) -> tuple[Any, list[State]]:
        self.batches.append([len(one) for one in tokens])
        self.waits.set()
        assert self.go.wait(20)
        if any(token == self._poison for one in tokens for token in one):
            raise RuntimeError("poisoned")
        return self._engine.forward_batch(tokens, states)


def words(count: int, *, prompt: Sequence[int] = (1, 2, 3)) -> Steps:
    """A reply of the `count` likeliest tokens after `prompt`."""
    tokens: Sequence[int] = prompt
    state = None
    for _ in range(count):
        fed = yield Feed([tokens], [state])
        assert fed is not None
        (logits,), (state,) = fed
        tokens = [int(logits.argmax())]
        yield TextDelta(f"{tokens[0]} ")
    yield Finished("stop", Usage(), Timings())


def text(events: Iterator[Any]) -> str:
    *deltas, end = events
    assert isinstance(end, Finished)
    return "".join(delta.text for delta in deltas)


@given(st.lists(st.integers(1, 400), max_size=30), st.integers(0, 200))
def test_words_always_go_on_and_prompts_share_the_rest(left: list[int], budget: int) -> None:
    sizes = shares(left, budget)
    long = [size for size, tokens in zip(sizes, left, strict=True) if tokens > 1]
    wanted = sum(tokens for tokens in left if tokens > 1)
    assert all(0 <= size <= tokens for size, tokens in zip(sizes, left, strict=True))
    assert all(size == 1 for size, tokens in zip(sizes, left, strict=True) if tokens == 1)
    assert sum(long) == min(budget, wanted)
    if budget >= 8 and long:
        assert long[0] > 0, "the oldest always goes on"


def test_prompts_of_one_age_share_evenly() -> None:
    assert shares([300, 300, 1, 300], 96) == [32, 32, 1, 32]
    assert shares([300, 5, 300], 96) == [46, 5, 45]
    assert shares([300] * 4, 16) == [8, 8, 0, 0]


def test_replies_join_and_leave_between_steps(loaded: LoadedModel) -> None:
    engine = Watched(loaded.engine)
    scheduler = Scheduler(engine)
    prompts = [tuple(range(3 + n, 8 + 3 * n)) for n in range(7)]
    alone = [text(Scheduler(loaded.engine).run(words(20 + 9 * n, prompt=p)))
             for n, p in enumerate(prompts)]  # fmt: skip
    engine.go.clear()
    with ThreadPoolExecutor(7) as pool:
        first = pool.submit(lambda: text(scheduler.run(words(20, prompt=prompts[0]))))
        assert engine.waits.wait(10)
        rest = [
            pool.submit(lambda n=n: text(scheduler.run(words(20 + 9 * n, prompt=prompts[n]))))
            for n in range(1, 7)
        ]
        # The first by itself, some in the thread for many, and the rest at its door.
        wait_until(lambda: len(scheduler._arrived) + sum(map(len, engine.batches[1:])) == 6)
        engine.go.set()
        assert [future.result(30) for future in (first, *rest)] == alone
    assert engine.batches[0] == [5]
    assert max(map(len, engine.batches)) == 7
    assert len(engine.batches[-1]) == 1
    wait_until(lambda: not scheduler._working)
    assert scheduler.load.steps == len(engine.batches)
    assert scheduler.load.sequences == sum(map(len, engine.batches))
    assert scheduler.load.tokens == sum(map(sum, engine.batches))


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.002)


def test_a_long_prompt_is_read_in_slices_beside_words(loaded: LoadedModel) -> None:
    engine = Watched(loaded.engine)
    scheduler = Scheduler(engine)
    scheduler._token_seconds = 0.08 / 31  # a machine that reads 31 tokens in the time of a step
    engine.go.clear()
    prompt = [5, 6, 7, 8] * 100
    with ThreadPoolExecutor(3) as pool:
        talking = [pool.submit(lambda: text(scheduler.run(words(60)))) for _ in "ab"]
        wait_until(lambda: len(engine.batches) == 2)
        reading = pool.submit(lambda: text(scheduler.run(words(1, prompt=prompt))))
        wait_until(lambda: scheduler._arrived)
        before = scheduler._note
        scheduler._note = lambda chosen, _: before(chosen, 0.08 / 31 * 31)  # type: ignore[method-assign]
        engine.go.set()
        sliced = reading.result(30)
        said = [future.result(30) for future in talking]
    mixed = [batch for batch in engine.batches if max(batch) > 3]
    assert len(mixed) >= 400 // 32
    assert max(map(max, mixed)) <= 32
    assert all(1 in batch for batch in mixed), "no word waited for the prompt"
    assert said == [text(Scheduler(loaded.engine).run(words(60)))] * 2
    logits, _ = loaded.engine.forward(prompt, None)
    assert sliced == f"{int(logits.argmax())} "


def test_one_that_fails_takes_nobody_along(loaded: LoadedModel) -> None:
    engine = Watched(loaded.engine, poison=9)
    scheduler = Scheduler(engine)
    engine.go.clear()
    with ThreadPoolExecutor(3) as pool:
        good = [pool.submit(lambda: text(scheduler.run(words(12, prompt=(1, 2))))) for _ in "ab"]
        assert engine.waits.wait(10)
        wait_until(lambda: len(engine.batches) == 2)
        bad = pool.submit(lambda: text(scheduler.run(words(12, prompt=(1, 9)))))
        wait_until(lambda: scheduler._arrived)
        engine.go.set()
        with pytest.raises(RuntimeError, match="poisoned"):
            bad.result(30)
        wanted = text(Scheduler(loaded.engine).run(words(12, prompt=(1, 2))))
        said = [future.result(30) for future in good]
    # The poison is a token that they might say themselves.
    assert said == [wanted, wanted]
    assert text(scheduler.run(words(3))), "and it works on"


def test_steps_that_break_end_only_their_own_reply(loaded: LoadedModel) -> None:
    scheduler = Scheduler(loaded.engine)

    def broken() -> Steps:
        yield from words(2)
        raise ValueError("to order")

    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(lambda: text(scheduler.run(words(30))))
        with pytest.raises(ValueError, match="to order"):
            list(scheduler.run(broken()))
        assert good.result(30)


def test_who_goes_away_is_out_of_the_next_step(loaded: LoadedModel) -> None:
    engine = Watched(loaded.engine)
    scheduler = Scheduler(engine)
    gone = threading.Event()
    closed: list[bool] = []

    def steps() -> Steps:
        try:
            yield from words(10_000)
        finally:
            closed.append(True)

    left = scheduler.run(steps())
    next(left)
    cancelled = scheduler.run(steps(), gone.is_set)
    next(cancelled)
    left.close()  # type: ignore[attr-defined]
    gone.set()
    assert not any(isinstance(event, Finished) for event in cancelled)
    wait_until(lambda: not scheduler._working)
    assert closed == [True, True]
    steps_so_far = len(engine.batches)
    time.sleep(0.05)
    assert len(engine.batches) == steps_so_far


def test_a_reader_that_stands_still_holds_up_nobody(loaded: LoadedModel) -> None:
    scheduler = Scheduler(loaded.engine)
    slow = scheduler.run(words(100))
    next(slow)
    assert text(scheduler.run(words(50)))
    assert sum(isinstance(event, TextDelta) for event in slow) == 99


def test_drafts_and_single_replies_are_what_they_are_alone(loaded: LoadedModel) -> None:
    scheduler = Scheduler(loaded.engine)
    warm = SamplingSettings(temperature=1.0)
    requests = [
        GenerationRequest(
            loaded.prompts.build([Message("user", f"hello {'there ' * (n % 5 * 8)}{n}")]),
            replace(warm, seed=n),
            15,
            drafts=1 + n % 3 * 2,
        )
        for n in range(12)
    ]

    def texts(request: GenerationRequest, **how: Any) -> str:
        return text(loaded.generator.generate(request, **how))

    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda one: texts(one, drive=scheduler.run), requests))
    assert together == [texts(one) for one in requests]
    assert scheduler.load.sequences > scheduler.load.steps


def test_numbers_of_a_state_do_not_leak_from_one_to_another(loaded: LoadedModel) -> None:
    """The logits that steps get are theirs to keep while others are answered."""
    kept: list[Any] = []

    def steps() -> Steps:
        state = None
        for token in (1, 2, 3):
            fed = yield Feed([[token]], [state])
            assert fed is not None
            kept.append((fed[0][0], fed[0][0].copy()))
            state = fed[1][0]
        yield Finished("stop", Usage(), Timings())

    scheduler = Scheduler(loaded.engine)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: list(scheduler.run(steps())), range(4)))
    assert all(np.array_equal(row, copy) for row, copy in kept)
