"""The whole process, watched from before its first platform to its end: `/healthz`, and its log."""

from __future__ import annotations

import asyncio
import io
import logging
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
import structlog

from bot import run
from bot.ops.logging import configure
from bot.stores import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.e2e.harness import BotStage


class Watch:
    """Asks `/healthz`, and holds the history back until told to open it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.log = io.StringIO()
        self._open = asyncio.Event()

    async def open_store(self, url: str) -> Any:
        await self._open.wait()
        return await open_store(url)

    async def logged(self, words: str) -> str:
        """The whole log, as soon as it has these words."""
        async with asyncio.timeout(60):
            while words not in self.log.getvalue():
                await asyncio.sleep(0.05)
        return self.log.getvalue()

    def let_it_open(self) -> None:
        self._open.set()

    async def until(self, status: int) -> dict[str, Any]:
        """What it says as soon as it answers with this status."""
        url = f"http://127.0.0.1:{self._port}/healthz"
        async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(30):
            while True:
                with suppress(httpx.TransportError):
                    answer = await client.get(url)
                    if answer.status_code == status:
                        said: dict[str, Any] = answer.json()
                        return said
                await asyncio.sleep(0.05)


@asynccontextmanager
async def watched(
    stage: BotStage, name: str, platform: Callable[[Any], Any]
) -> AsyncIterator[Watch]:
    """`friend run` with one platform of the stage's, its history closed until let open."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = stage.settings({"FRIEND_OPS_PORT": str(port)})
    watch = Watch(port)
    stage.monkeypatch.setattr("bot.app.open_store", watch.open_store)

    @asynccontextmanager
    async def made(_: str, settings: Any) -> AsyncIterator[Any]:
        async with platform(settings) as it:
            yield it

    stage.monkeypatch.setattr(run, "_platform", made)
    configure(settings.ops, stream=watch.log)
    task = asyncio.create_task(run._run(settings, [name]))
    try:
        yield watch
    finally:
        watch.let_it_open()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        structlog.reset_defaults()
        root = logging.getLogger()
        for handler in [h for h in root.handlers if getattr(h, "of_friend", False)]:
            root.removeHandler(handler)
        logging.captureWarnings(False)
