"""The model server that friend starts for itself when no address of one is set.

A process of its own on a loopback port, spoken to over HTTP like any other. Its standard input is
a pipe from us, and it leaves when that closes: so it cannot outlive us, however we end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self, cast
from urllib.parse import urlsplit

import structlog

from bot.errors import ServerNotStarted
from bot.settings import ModelSettings

_log = structlog.get_logger(__name__)

_FOREIGN_SECRETS = ("DISCORD_", "SLACK_", "FRIEND_STORE_")
"""Prefixes of settings that are none of the model server's business."""
_KEPT_LINES = 40
_STOP_SECONDS = 5.0


def serve_command(settings: ModelSettings) -> list[str]:
    """The command of our own model server, without the port."""
    command = [sys.executable, "-m", "lambda_inference", "serve", "--host", "127.0.0.1"]
    command += ["--announce", "--exit-with-stdin"]
    if settings.file is not None:
        command += ["--model", str(settings.file)]
    if settings.state is not None:
        command += ["--state", str(settings.state)]
    if settings.threads:
        command += ["--threads", str(settings.threads)]
    return command


class LocalServer:
    """Keeps a model server running; an async context manager.

    If the server dies it is started again on the same port, after a pause that doubles; when it
    keeps dying, it is left alone, and `running` stays False.

    Args:
        command: what to run, to which `--port N` is added; see `serve_command`.
        start_seconds: longest wait for the announcement of the address.
        restart_seconds: pause before the first restart.
        max_restarts: restarts in a row; a server that ran for `steady_seconds` has a clean record.
        on_change: called with whether the server runs, when that changes.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        start_seconds: float = 60.0,
        restart_seconds: float = 0.5,
        max_restarts: int = 6,
        steady_seconds: float = 60.0,
        on_change: Callable[[bool], None] = lambda running: None,
    ) -> None:
        self._command = list(command)
        self._start_seconds = start_seconds
        self._restart_seconds = restart_seconds
        self._max_restarts = max_restarts
        self._steady_seconds = steady_seconds
        self._on_change = on_change
        self._last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._pumps: list[asyncio.Task[None]] = []
        self._keeper: asyncio.Task[None] | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """The address; the same for as long as the context lasts."""
        if not self._url:
            raise RuntimeError("the model server has not been started")
        return self._url

    @property
    def running(self) -> bool:
        """Whether there is a live process now."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """Of the live process, for `doctor` and tests."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def last_lines(self) -> list[str]:
        """The end of what the server wrote to its standard error."""
        return list(self._last_lines)

    async def __aenter__(self) -> Self:
        """Start the server.

        Raises:
            ServerNotStarted: with the server's last words.
        """
        self._url = await self._start(port=0)
        self._on_change(True)
        self._keeper = asyncio.create_task(self._keep(), name="model server")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server, kindly at first."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await self._stop()

    async def _keep(self) -> None:
        """Wait for the server's death, and raise it again."""
        loop = asyncio.get_running_loop()
        restarts = 0
        while True:
            since = loop.time()
            status = await self._process.wait() if self._process is not None else None
            self._on_change(False)
            if loop.time() - since >= self._steady_seconds:
                restarts = 0
            _log.error("model_server.died", status=status, last_lines=self.last_lines[-5:])
            while not self.running:
                if restarts >= self._max_restarts:
                    _log.error("model_server.given_up", restarts=restarts)
                    return
                pause = self._restart_seconds * 2**restarts * random.uniform(0.8, 1.2)  # noqa: S311
                restarts += 1
                await asyncio.sleep(pause)
                try:
                    await self._start(port=urlsplit(self._url).port or 0)
                except ServerNotStarted as error:
                    _log.error("model_server.not_restarted", error=str(error))
            _log.warning("model_server.restarted", restarts=restarts)
            self._on_change(True)

    async def _start(self, *, port: int) -> str:
        await self._stop()
        self._last_lines.clear()
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_FOREIGN_SECRETS)
        }
        try:
            # A session of its own: Ctrl-C in friend's terminal is not meant for the server.
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                "--port",
                str(port),
                env=environment,
                start_new_session=True,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise ServerNotStarted(f"The model server could not be run: {error}.") from error
        stdout = cast("asyncio.StreamReader", self._process.stdout)
        stderr = cast("asyncio.StreamReader", self._process.stderr)
        said = asyncio.create_task(self._keep_lines(stderr))
        self._pumps = [said]
        try:
            async with asyncio.timeout(self._start_seconds):
                url = await _announced(stdout)
        except TimeoutError:
            await self._stop()
            problem = f"gave no address within {self._start_seconds:g} seconds"
            raise ServerNotStarted(self._obituary(problem)) from None
        except BaseException:
            await self._stop()
            raise
        if url is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._process.wait()
                    await asyncio.shield(said)
            await self._stop()
            problem = f"ended (exit status {self._process.returncode})"
            raise ServerNotStarted(self._obituary(problem))
        self._pumps.append(asyncio.create_task(_discard(stdout)))
        return url

    async def _stop(self) -> None:
        process = self._process
        if process is not None:
            _signal(process, signal.SIGTERM)
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                _signal(process, signal.SIGKILL)
                await process.wait()
            if process.stdin is not None:
                process.stdin.close()
        for pump in self._pumps:
            pump.cancel()
        if self._pumps:
            await asyncio.wait(self._pumps)
        self._pumps = []

    async def _keep_lines(self, stream: asyncio.StreamReader) -> None:
        async for line in _lines(stream):
            self._last_lines.append(line)
            _log.debug("model_server.said", line=line)

    def _obituary(self, what: str) -> str:
        words = "\n".join(f"  {line}" for line in self.last_lines[-8:])
        said = f" The last it said:\n{words}" if words else " It said nothing."
        return (
            f"The model server did not start: it {what}.{said}\n"
            "`friend doctor` checks the model; FRIEND_MODEL_FILE names another one."
        )


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # Not process.terminate(): it polls, and so takes the exit status from asyncio's watcher.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


async def _announced(stream: asyncio.StreamReader) -> str | None:
    """The address from the line `{"url": ...}`; None if the stream ends before it."""
    async for line in _lines(stream):
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and isinstance(url := said.get("url"), str):
            return url
    return None


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines of any length: an endless one comes in pieces rather than as an error."""
    rest = b""
    while chunk := await stream.read(65536):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > 65536:
            whole.append(rest)
            rest = b""
        for line in whole:
            yield line.decode("utf-8", "replace").rstrip()
    if rest:
        yield rest.decode("utf-8", "replace").rstrip()


async def _discard(stream: asyncio.StreamReader) -> None:
    """Keep the pipe empty, so that the server never blocks on it."""
    while await stream.read(65536):
        pass
