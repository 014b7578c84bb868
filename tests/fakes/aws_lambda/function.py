"""A function: starts environments as they are needed, one event in each, and ends idle ones."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes.aws_lambda.environment import Environment, FunctionSettings
from tests.fakes.aws_lambda.invocation import FunctionError, Invocation
from tests.fakes.aws_lambda.limits import Limits

_NEARLY_FREE_S = 0.5


class Throttled(Exception):
    """As many events are being handled as the function may handle."""


@dataclass(frozen=True)
class Report:
    """What Lambda's REPORT line says of an invocation. `error` is its errorType."""

    request_id: str
    environment: str
    cold: bool
    init_ms: float
    duration_ms: float
    memory_mb: int
    used_mb: float
    error: str | None

    @property
    def gb_s(self) -> float:
        """What is billed: init and duration in whole milliseconds, times the memory."""
        billed_ms = -(-(self.init_ms + self.duration_ms) // 1)
        return self.memory_mb / 1024 * billed_ms / 1000

    def __str__(self) -> str:
        cold = f" Init Duration: {self.init_ms:.2f} ms" if self.cold else ""
        failed = f" Status: error Error Type: {self.error}" if self.error else ""
        return (
            f"REPORT RequestId: {self.request_id} Environment: {self.environment} Duration: "
            f"{self.duration_ms:.2f} ms{cold} Memory Size: {self.memory_mb} MB Max Memory Used: "
            f"{self.used_mb:.0f} MB{failed}"
        )


class Function:
    """Environments and what runs in them."""

    def __init__(
        self,
        settings: FunctionSettings,
        limits: Limits,
        say: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        """`clock`: seconds; by it idle environments end."""
        self._settings = settings
        self._limits = limits
        self._say = say
        self._clock = clock
        self.idle: list[Environment] = []
        self.busy: set[Environment] = set()
        self._ending: set[Environment] = set()
        self._invocations: set[Invocation] = set()
        self._freed = asyncio.Event()
        self.reports: list[Report] = []
        self.started = 0
        """Environments ever started, init phases that ran again included."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.Task[None] | None = None

    def begin(self, event: bytes) -> Invocation:
        """Hand an event to an environment, a new one if none is free. Raises Throttled."""
        if self._reaper is None:
            self._reaper = asyncio.create_task(self._reap())
        if sum(not one.answered for one in self._invocations) >= self._settings.concurrency:
            raise Throttled(f"{self._settings.concurrency} events are being handled")
        invocation = Invocation(event)
        self._invocations.add(invocation)
        task = asyncio.create_task(self._handle(invocation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._invocations.discard(invocation))
        return invocation

    async def settle(self) -> None:
        """Wait until every event is handled and its environment is frozen."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """End everything."""
        tasks = [*self._tasks, *([self._reaper] if self._reaper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ends = [one.kill() for one in (*self.busy, *self._ending)]
        ends += [one.stop() for one in self.idle]
        self.busy, self.idle = set(), []
        await asyncio.gather(*ends)

    async def _free(self) -> Environment:
        """A warm environment or a new one.

        One that has answered, but did not ask on yet, is waited for: to clients that are further
        away than loopback it would be free.
        """
        end = time.monotonic() + _NEARLY_FREE_S
        while True:
            while self.idle:
                environment = self.idle.pop()
                if environment.alive:
                    self.busy.add(environment)
                    return environment
            left = end - time.monotonic()
            nearly = any(one.current is not None and one.current.answered for one in self.busy)
            if left <= 0 or not nearly:
                return self._new()
            self._freed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), left)

    def _new(self) -> Environment:
        self.started += 1
        environment = Environment(self._settings, self._limits, self._say)
        self.busy.add(environment)
        return environment

    async def _drop(self, environment: Environment) -> None:
        await environment.kill()
        self.busy.discard(environment)
        self._freed.set()

    async def _handle(self, invocation: Invocation) -> None:
        environment = await self._free()
        cold = not environment.started
        began = time.monotonic()
        duration, sound = 0.0, False
        try:
            limit = self._settings.timeout_s
            if cold:
                environment, limit = await self._warmed(environment)
            began = time.monotonic()
            invocation.deadline = time.time() + limit
            async with asyncio.timeout(limit):
                await environment.run(invocation)
            sound = True
        except TimeoutError:
            seconds = self._settings.timeout_s
            words = f"{invocation.id} Task timed out after {seconds:.2f} seconds"
            self._say(words)
            late = FunctionError("Sandbox.Timedout", words)
            invocation.error = invocation.error or late
            invocation.fail(late)
        except FunctionError as error:
            self._say(f"{invocation.id} {error}")
            invocation.error = invocation.error or error
            invocation.fail(error)
        finally:
            duration = time.monotonic() - began
            report = Report(
                request_id=invocation.id,
                environment=environment.id,
                cold=cold,
                init_ms=environment.init_s * 1000 if cold else 0.0,
                duration_ms=duration * 1000,
                memory_mb=self._settings.memory_mb,
                used_mb=environment.peak_mb,
                error=invocation.error.kind if invocation.error else None,
            )
            self.reports.append(report)
            self._say(str(report))
        if not sound:
            await self._drop(environment)
            return
        await environment.freeze()
        environment.idle_since = self._clock()
        self.busy.discard(environment)
        self.idle.append(environment)
        self._freed.set()

    async def _warmed(self, environment: Environment) -> tuple[Environment, float]:
        """Through init; one that fails or takes too long runs again, on the invocation's time."""
        try:
            await environment.start(self._limits.init_s)
        except FunctionError as error:
            self._say(f"INIT_REPORT {environment.id} {error}; it runs again")
        else:
            return environment, self._settings.timeout_s
        await self._drop(environment)
        environment = self._new()
        began = time.monotonic()
        try:
            await environment.start(self._settings.timeout_s)
        except BaseException:
            await self._drop(environment)
            raise
        return environment, self._settings.timeout_s - (time.monotonic() - began)

    async def expire(self) -> None:
        """End environments that nobody needed for a while; Lambda tells no one when it does."""
        limit = self._clock() - self._settings.idle_s
        old = [one for one in self.idle if one.idle_since < limit]
        self.idle = [one for one in self.idle if one not in old]
        self._ending.update(old)
        await asyncio.gather(*(one.stop() for one in old))
        self._ending.difference_update(old)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._settings.idle_s / 4))
            await self.expire()
