"""Keeping platforms running, each for itself, until it is time to go."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import structlog

from bot.errors import FriendError, PlatformFailed
from bot.ops.health import Health, State
from bot.ops.logging import is_unreachable
from bot.ops.metrics import Metrics

_log = structlog.get_logger(__name__)

Run = Callable[[], Awaitable[None]]


class Supervisor:
    """Runs platforms and starts them again when they end; cancels them on leaving its context.

    The pause before a restart doubles from `first_pause` to `longest_pause` seconds, with jitter,
    so that a service that is down is not hammered; a run of `steady_seconds` starts it anew. A
    platform that raises `PlatformFailed` needs a person, and is not started again.
    """

    def __init__(
        self,
        health: Health,
        metrics: Metrics,
        *,
        first_pause: float = 1.0,
        longest_pause: float = 60.0,
        steady_seconds: float = 120.0,
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._steady_seconds = steady_seconds
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, run: Run, *, connected: Callable[[], bool] | None = None) -> None:
        """Run `run` from now on; `connected` says whether it is really heard by the platform."""
        self._health.expect(name, connected)
        self._metrics.watch_connection(name, lambda: self._health.is_up(name))
        self._tasks[name] = asyncio.create_task(self._keep(name, run), name=name)

    async def wait(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set.

        Raises:
            PlatformFailed: of the platforms not one is left that could run.
        """
        stopped = asyncio.ensure_future(stop.wait())
        running = set(self._tasks.values())
        try:
            while running and not stop.is_set():
                done, _ = await asyncio.wait(
                    {stopped, *running}, return_when=asyncio.FIRST_COMPLETED
                )
                running -= done
            if not stop.is_set():
                for task in self._tasks.values():
                    task.result()
        finally:
            stopped.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel what still runs, and wait for it to be gone."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _keep(self, name: str, run: Run) -> None:
        clock = asyncio.get_running_loop().time
        pause = self._first_pause
        while True:
            since = clock()
            self._health.report(name, State.UP)
            try:
                await run()
            except PlatformFailed as error:
                self._health.report(name, State.FAILED, str(error))
                _log.error("platform.failed", platform=name, error=str(error))
                raise
            except FriendError as error:
                _log.warning("platform.stopped", platform=name, error=str(error))
                detail = str(error).removesuffix(".")
            except Exception as error:  # noqa: BLE001 - whatever it was, the others go on
                if is_unreachable(error):
                    _log.warning("platform.unreachable", platform=name, error=repr(error))
                else:
                    _log.exception("platform.crashed", platform=name)
                detail = f"{type(error).__name__}; see the log"
            else:
                _log.warning("platform.ended", platform=name)
                detail = "it ended"
            if clock() - since >= self._steady_seconds:
                pause = self._first_pause
            wait = pause * random.uniform(0.5, 1.5)  # noqa: S311
            self._health.report(name, State.DOWN, f"Restarting: {detail}.")
            _log.info("platform.restarting", platform=name, in_seconds=round(wait, 3))
            await asyncio.sleep(wait)
            self._metrics.restarted(name)
            pause = min(2 * pause, self._longest_pause)


@asynccontextmanager
async def stop_signals() -> AsyncIterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set: time to finish what is under way, and go.

    A second signal does what it does by default, for whoever cannot wait.
    """
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    event = asyncio.Event()

    def stop() -> None:
        event.set()
        _log.info("stopping", hint="once more to stop at once")
        restore()

    def restore() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])

    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield event
    finally:
        restore()
