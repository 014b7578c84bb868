"""A model that may sleep is woken before it is needed, and never for nothing."""

from __future__ import annotations

import asyncio

import pytest

from bot.core.waking import Waker


class Model:
    """What is pinged, and a clock that only tests move."""

    def __init__(self, *, answers: bool = True) -> None:
        self.now = 1000.0
        self.pings = 0
        self.answers = answers
        self.holds = asyncio.Event()
        self.holds.set()

    async def warm(self) -> bool:
        self.pings += 1
        await self.holds.wait()
        return self.answers

    def waker(self, asleep_after: float = 60.0) -> Waker:
        return Waker(self.warm, asleep_after=asleep_after, clock=lambda: self.now)


async def _a_moment() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_model_that_was_never_used_is_pinged_once() -> None:
    model = Model()
    waker = model.waker()
    for _ in range(3):
        waker.wake()
        await _a_moment()
    assert model.pings == 1


async def test_a_model_just_used_is_left_alone_until_it_may_sleep() -> None:
    model = Model()
    waker = model.waker(asleep_after=60)
    waker.used()
    model.now += 59
    waker.wake()
    await _a_moment()
    assert model.pings == 0
    model.now += 1
    waker.wake()
    await _a_moment()
    assert model.pings == 1


async def test_a_ping_counts_as_use_whatever_becomes_of_it() -> None:
    model = Model(answers=False)
    waker = model.waker(asleep_after=60)
    waker.wake()
    await _a_moment()
    model.now += 59
    waker.wake()
    await _a_moment()
    assert model.pings == 1
    model.now += 1
    waker.wake()
    await _a_moment()
    assert model.pings == 2


async def test_there_is_one_ping_at_a_time() -> None:
    model = Model()
    model.holds.clear()
    waker = model.waker(asleep_after=60)
    for _ in range(3):
        waker.wake()
        await _a_moment()
        model.now += 100
    assert model.pings == 1
    model.holds.set()
    await _a_moment()
    waker.wake()
    await _a_moment()
    assert model.pings == 2


async def test_whoever_asks_the_model_first_waits_for_the_ping_under_way() -> None:
    model = Model()
    waker = model.waker()
    await waker.awake()
    model.holds.clear()
    waker.wake()
    asking = asyncio.create_task(waker.awake())
    await _a_moment()
    assert not asking.done()
    model.holds.set()
    async with asyncio.timeout(20):
        await asking
        await waker.awake()


async def test_nobody_waits_long_for_a_ping_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.core.waking.LONGEST_START_SECONDS", 0.01)
    model = Model()
    model.holds.clear()
    waker = model.waker()
    waker.wake()
    async with asyncio.timeout(20):
        await waker.awake()
    await waker.close()
    assert model.pings == 1


async def test_a_model_that_never_sleeps_is_never_pinged() -> None:
    model = Model()
    model.waker(asleep_after=0).wake()
    await _a_moment()
    assert model.pings == 0


async def test_closing_gives_a_ping_up_and_sends_no_more() -> None:
    model = Model()
    model.holds.clear()
    waker = model.waker()
    waker.wake()
    await _a_moment()
    async with asyncio.timeout(20):
        await waker.close()
    model.now += 1000
    waker.wake()
    await _a_moment()
    assert model.pings == 1


async def test_a_broken_ping_troubles_nobody() -> None:
    async def broken() -> bool:
        raise RuntimeError("the client is closed")

    waker = Waker(broken, asleep_after=60)
    waker.wake()
    await _a_moment()
    await waker.close()
