"""Whether friend hears and answers, for people, probes and Prometheus, on a loopback port."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import structlog
from aiohttp import web

from bot.errors import SettingsInvalid
from bot.ops.metrics import Metrics

_log = structlog.get_logger(__name__)


class State(StrEnum):
    """How a part of friend is."""

    STARTING = "starting"
    UP = "up"
    DOWN = "down"
    """Not now, but friend is at it."""
    FAILED = "failed"
    """Not without a person's help."""


@dataclass(slots=True)
class _Part:
    state: State = State.STARTING
    detail: str = ""
    since: float = field(default_factory=time.time)
    connected: Callable[[], bool] | None = None

    def seen(self) -> State:
        """The state, with what the part itself says of its connection."""
        if self.state is State.UP and self.connected is not None and not self.connected():
            return State.DOWN
        return self.state


class Health:
    """What is known of each part; parts report, anybody may look."""

    def __init__(self) -> None:
        self._parts: dict[str, _Part] = {}

    def expect(self, name: str, connected: Callable[[], bool] | None = None) -> None:
        """Name a part that ought to come up; `connected` is asked when somebody looks."""
        self._parts[name] = _Part(connected=connected)

    def report(self, name: str, state: State, detail: str = "") -> None:
        """Say how a part is now; `detail` is a sentence without secrets."""
        part = self._parts.setdefault(name, _Part())
        if state is not part.state:
            part.since = time.time()
        part.state, part.detail = state, detail

    def is_up(self, name: str) -> bool:
        """Whether a part is up."""
        part = self._parts.get(name)
        return part is not None and part.seen() is State.UP

    @property
    def ok(self) -> bool:
        """Whether every part is up; before the first is named, nothing is known to be."""
        return bool(self._parts) and all(part.seen() is State.UP for part in self._parts.values())

    def snapshot(self) -> dict[str, Any]:
        """The same for `/healthz`; `since` is in seconds since 1970."""
        parts = {
            name: {"state": part.seen(), "detail": part.detail, "since": round(part.since, 3)}
            for name, part in self._parts.items()
        }
        return {"ok": self.ok, "parts": parts}


@asynccontextmanager
async def ops_server(port: int, health: Health, metrics: Metrics) -> AsyncIterator[int]:
    """Serve `/healthz` (200 or 503) and `/metrics` on 127.0.0.1; gives the port.

    Args:
        port: 0 for any free one.

    Raises:
        SettingsInvalid: the port is taken or not allowed.
    """

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response(health.snapshot(), status=200 if health.ok else 503)

    async def prometheus(request: web.Request) -> web.Response:
        kind = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=metrics.text(), headers=kind)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", prometheus)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        except OSError as error:
            raise SettingsInvalid(
                f"FRIEND_OPS_PORT: port {port} cannot be used ({error.strerror}). "
                "Name a free one, or 0 for any."
            ) from error
        actual: int = runner.addresses[0][1]
        _log.info("ops.listening", port=actual)
        yield actual
    finally:
        await runner.cleanup()
