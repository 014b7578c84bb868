"""The simulated traffic of the keep-warm benchmark, played to the emulator by its own clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.traffic import Habits, Times, messages, pings, simulate
from tests.e2e.lambda_scenarios.conftest import FunctionMaker
from tests.fakes.aws_lambda import LambdaEmulator

pytestmark = [pytest.mark.e2e, getattr(pytest.mark, "lambda")]

IDLE = 300.0  # seconds
TIMES = Times(init=1.0, cold_reply=2.0, reply=2.0, ping=0.001)


class Stage:
    """Calls begin and end when the schedule says so; real time plays no part in it."""

    def __init__(self, function: LambdaEmulator, folder: Path, clock: list[float]) -> None:
        self._function = function
        self._folder = folder
        self._clock = clock
        self._begun = 0
        self._open: list[tuple[float, Path, asyncio.Task[Any]]] = []

    async def begin(self, at: float, times: Times, *, ping: bool) -> None:
        """An event, after all that ends before it."""
        await self.end_until(at)
        self._clock[0] = at
        await self._function.expire()
        before = self._function.started
        gate = self._folder / f"gate{self._begun}"
        self._begun += 1
        call = asyncio.create_task(self._function.invoke({"do": "wait", "path": str(gate)}))
        await self._until(lambda: len(self._function._function.busy) > len(self._open))
        cold = self._function.started > before
        taken = times.ping if ping else times.cold_reply if cold else times.reply
        self._open.append((at + taken + (times.init if cold else 0), gate, call))

    async def end_until(self, at: float) -> None:
        """Let the calls go that have ended by then, each at its moment."""
        for ends, gate, call in sorted(self._open, key=lambda one: one[0]):
            if ends > at:
                continue
            self._clock[0] = ends
            gate.touch()
            await call
            self._open.remove((ends, gate, call))
            await self._until(lambda: len(self._function._function.busy) == len(self._open))

    @staticmethod
    async def _until(true: Any) -> None:
        async with asyncio.timeout(60):
            while not true():
                await asyncio.sleep(0.002)


async def play(
    toy: FunctionMaker, folder: Path, asked: Sequence[float], pinged: Sequence[float]
) -> list[bool]:
    """Whether each event, in their order, started an environment."""
    clock = [0.0]
    events = sorted([(at, False) for at in asked] + [(at, True) for at in pinged])
    async with toy(idle_s=IDLE, clock=lambda: clock[0], timeout_s=100) as function:
        stage = Stage(function, folder, clock)
        colds = []
        for at, ping in events:
            before = function.started
            await stage.begin(at, TIMES, ping=ping)
            colds.append(function.started > before)
        await stage.end_until(float("inf"))
        assert sum(report.cold for report in function.reports) == sum(colds)
        return colds


async def test_the_simulation_starts_what_the_emulator_starts(
    toy: FunctionMaker, tmp_path: Path
) -> None:
    day = 86_400.0
    begin, end = 0.6 * day, 0.6 * day + 1800  # half an hour of an afternoon
    chatty = Habits(pause=10.0, messages=4)  # so that people speak over each other
    asked = [at for at in messages(900, day, habits=chatty) if begin < at < end]
    pinged = [at for at in pings(10, day, late_s=60) if begin < at < 2 * end - begin]
    found = simulate(asked, pinged, TIMES, idle_s=IDLE)
    assert 3 <= sum(found.cold) < len(found.cold)
    assert found.cold_pings
    assert await play(toy, tmp_path, asked, pinged) == list(found.cold)


async def test_both_end_an_environment_at_the_same_moment(
    toy: FunctionMaker, tmp_path: Path
) -> None:
    # The first reply ends at 3, so the environment is there until 303; the second ends at 305.
    asked = [0.0, 303.0, 605.1, 606.0, 611.0]
    found = simulate(asked, [], TIMES, idle_s=IDLE)
    assert list(found.cold) == [True, False, True, True, False]
    assert await play(toy, tmp_path, asked, []) == list(found.cold)
