"""One execution environment: a process that handles one event at a time, frozen between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.aws_lambda.invocation import FunctionError, Invocation
from tests.fakes.aws_lambda.limits import Limits
from tests.fakes.aws_lambda.runtime_api import RuntimeApi

_VCPU_MB = 1769  # memory that comes with one virtual CPU
_LOOK_SECONDS = 0.05  # between two looks at the memory used


@dataclass(frozen=True)
class Container:
    """How to freeze and end a container, whose processes are not in our process group.

    Each is a command; `{environment}` in it, as in the function's command, is the environment's
    name, for `podman run --name {environment} ...` and `podman pause {environment}`. What the
    function's command starts must share the network with this machine and pass variables on:
    `--network host --env AWS_* --env FRIEND_*`.
    """

    pause: Sequence[str]
    resume: Sequence[str]
    kill: Sequence[str]

    @classmethod
    def of(cls, engine: Sequence[str]) -> Container:
        """For docker's command line, which podman shares."""
        pause, resume, kill = (
            [*engine, *words, "{environment}"]
            for words in (("pause",), ("unpause",), ("rm", "--force", "--time", "0"))
        )
        return cls(pause, resume, kill)


@dataclass(frozen=True)
class FunctionSettings:
    """What a function is configured with. Times in seconds."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    memory_mb: int = _VCPU_MB
    timeout_s: float = 30.0
    concurrency: int = 10
    idle_s: float = 300.0
    freeze: bool = True
    snapstart: bool = False
    cpus: int | None = None
    """CPUs that the process may use; None for what the memory size gives, rounded up."""
    container: Container | None = None


class Environment:
    """`start`, then `run` for each event, then `stop` or `kill`."""

    def __init__(
        self, settings: FunctionSettings, limits: Limits, say: Callable[[str], None]
    ) -> None:
        self.id = f"friend-{uuid.uuid4().hex[:12]}"
        self.current: Invocation | None = None
        self.started = False
        self.init_s = 0.0
        self.peak_mb = 0.0
        """Most memory seen in use, MB; stays 0 where /proc does not tell."""
        self.frozen = False
        self.idle_since = 0.0
        self.process: asyncio.subprocess.Process | None = None
        self._settings = settings
        self._limits = limits
        self._say = say
        self._api = RuntimeApi(self, limits)
        self._events: asyncio.Queue[Invocation] = asyncio.Queue(1)
        self._asks = asyncio.Event()
        self._snapshot = asyncio.Event()
        self._restore = asyncio.Event()
        self._error: FunctionError | None = None
        self._failed = asyncio.Event()
        self._exited = asyncio.Event()
        self._watchers: list[asyncio.Task[None]] = []

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and not self._exited.is_set()

    async def start(self, limit_s: float) -> None:
        """The init phase (and a restore). Raises FunctionError."""
        began = time.monotonic()
        await self._spawn()
        if self._settings.snapstart:
            await self._phase(self._snapshot, self._limits.snapshot_init_s, "Init")
            await self.freeze()
            await self.thaw()
            began, limit_s = time.monotonic(), self._limits.restore_s
            self._restore.set()
        await self._phase(self._asks, limit_s, "Init")
        self.init_s = time.monotonic() - began
        self.started = True

    async def run(self, invocation: Invocation) -> None:
        """Hand the event over; returns when the runtime asks for the next. Raises FunctionError."""
        await self.thaw()
        self.current = invocation
        self._asks.clear()
        self._events.put_nowait(invocation)
        try:
            await self._phase(self._asks, None, "Invoke")
            if not invocation.answered:
                raise FunctionError("Runtime.NoAnswer", "the runtime asked on without an answer")
        finally:
            self.current = None

    async def freeze(self) -> None:
        """Stop the clock for the process."""
        if self._settings.freeze and self.alive and not self.frozen:
            self.frozen = True
            await self._control(signal.SIGSTOP)

    async def thaw(self) -> None:
        """And go on."""
        if self.frozen and self.alive:
            self.frozen = False
            await self._control(signal.SIGCONT)

    async def stop(self) -> None:
        """The shutdown phase: SIGTERM, a moment, SIGKILL."""
        await self.thaw()
        if self.alive and self.process is not None and self._settings.container is None:
            self.process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.shutdown_s):
                    await self._exited.wait()
        await self.kill()

    async def kill(self) -> None:
        """End it at once."""
        if self.alive:
            await self._control(signal.SIGKILL)
            await self._exited.wait()
        await self._api.close()
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

    async def next(self) -> Invocation:
        """The runtime asks for an event."""
        self._asks.set()
        return await self._events.get()

    async def restored(self) -> None:
        """The runtime is ready for its snapshot."""
        self._snapshot.set()
        await self._restore.wait()

    def failed(self, error: FunctionError) -> None:
        """The runtime says that it cannot start."""
        self._error = error
        self._failed.set()

    async def _spawn(self) -> None:
        settings = self._settings
        variables = dict(os.environ) | {
            "AWS_LAMBDA_RUNTIME_API": await self._api.listen(),
            "AWS_LAMBDA_FUNCTION_NAME": "friend",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(settings.memory_mb),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start" if settings.snapstart else "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/friend",
            "AWS_LAMBDA_LOG_STREAM_NAME": self.id,
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }
        self.process = await asyncio.create_subprocess_exec(
            *self._named(settings.command),
            env=variables | dict(settings.environment),
            cwd=settings.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=1 << 20,
        )
        self._limit_cpus(self.process.pid)
        self._watchers = [
            asyncio.create_task(self._watch_end(self.process)),
            asyncio.create_task(self._watch_memory(self.process.pid)),
        ]

    async def _phase(self, goal: asyncio.Event, limit_s: float | None, phase: str) -> None:
        """Wait for `goal`; the process may end or fail instead."""
        waits = [
            asyncio.ensure_future(event.wait()) for event in (goal, self._failed, self._exited)
        ]
        try:
            await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._error is not None:
            raise self._error
        if goal.is_set():
            return
        if self._exited.is_set():
            assert self.process is not None
            code = self.process.returncode or 0
            how = f"signal: {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            raise FunctionError("Runtime.ExitError", f"Runtime exited with error: {how}")
        raise FunctionError("Sandbox.Timedout", f"{phase} timed out after {limit_s:.2f} seconds")

    async def _watch_end(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._say(line.decode("utf-8", "replace").rstrip("\n"))
        await process.wait()
        self._exited.set()

    async def _watch_memory(self, pid: int) -> None:
        """Kill what takes too much memory. Pages of mapped files can be dropped: not counted."""
        status = Path(f"/proc/{pid}/status")
        if self._settings.container is not None or not status.exists():
            return
        while self.alive:
            with contextlib.suppress(OSError, StopIteration, ValueError):
                lines = status.read_text().splitlines()
                anonymous = next(line for line in lines if line.startswith("RssAnon:"))
                used = int(anonymous.split()[1]) / 1024
                self.peak_mb = max(self.peak_mb, used)
                if used > self._settings.memory_mb:
                    self._say(f"out of memory: {used:.0f} of {self._settings.memory_mb} MB")
                    await self._control(signal.SIGKILL)
            await asyncio.sleep(_LOOK_SECONDS)

    def _limit_cpus(self, pid: int) -> None:
        """Lambda gives CPU by memory; here whole CPUs, as shares of one would need cgroups."""
        if sys.platform != "linux" or self._settings.container is not None:
            return
        mine = sorted(os.sched_getaffinity(0))
        count = self._settings.cpus or -(-self._settings.memory_mb // _VCPU_MB)
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, mine[:count])

    async def _control(self, number: signal.Signals) -> None:
        assert self.process is not None
        container = self._settings.container
        if container is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            return
        words = {
            signal.SIGSTOP: container.pause,
            signal.SIGCONT: container.resume,
            signal.SIGKILL: container.kill,
        }[number]
        tool = await asyncio.create_subprocess_exec(
            *self._named(words), stdout=asyncio.subprocess.DEVNULL
        )
        await tool.wait()

    def _named(self, command: Sequence[str]) -> list[str]:
        return [word.replace("{environment}", self.id) for word in command]
