"""The REST side: one middleware for what every request meets, and the routes.

https://discord.com/developers/docs/reference#http-api
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.discord.faults import (
    Faults,
    LateResponse,
    LostResponse,
    Reset,
    answer,
    rate_limited,
)
from tests.fakes.discord.ratelimits import Buckets
from tests.fakes.discord.session import cut
from tests.fakes.discord.wire import ApiError, unauthorized

if TYPE_CHECKING:
    from tests.fakes.discord.world import World

PREFIX = "/api/v10"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Recorded:
    """A request as it arrived. ``status`` is None while it runs, 0 if no answer got out."""

    method: str
    path: str
    body: Any
    query: dict[str, str]
    time: float = field(default_factory=time.monotonic)
    status: int | None = None


class Rest:
    """What stands before every route: log, faults, token, rate limits, errors."""

    def __init__(self, world: World) -> None:
        self.faults = Faults()
        self.buckets = Buckets()
        self.requests: list[Recorded] = []
        self._world = world

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(PREFIX):
            return await handler(request)
        path = request.path.removeprefix(PREFIX)
        recorded = Recorded(request.method, path, await self._body(request), dict(request.query))
        self.requests.append(recorded)
        fault = self.faults.take(request.method, path)
        self._world.changes.notify()
        if isinstance(fault, Reset):
            return self._cut(request, recorded)
        response: web.StreamResponse | None = await answer(fault) if fault is not None else None
        if response is None:
            response = await self._handle(request, handler)
        if isinstance(fault, LostResponse):
            return self._cut(request, recorded)
        if isinstance(fault, LateResponse):
            await asyncio.sleep(fault.seconds)
        recorded.status = response.status
        self._world.changes.notify()
        return response

    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is None or request.match_info.http_exception is not None:
            self._world.problems.append(f"no such route: {request.method} {request.path}")
            return ApiError(404, 0, "404: Not Found").response()
        route = resource.canonical.removeprefix(PREFIX)
        needs_token = not route.startswith(("/interactions/", "/webhooks/"))
        if needs_token and request.headers.get("Authorization") != f"Bot {self._world.token}":
            return unauthorized().response()
        major = next(iter(request.match_info.values()), "")
        headers, wait = self.buckets.take(request.method, route, major)
        if wait is not None:
            limited = rate_limited(wait, "user")
            limited.headers.update(headers)
            return limited
        try:
            response = await handler(request)
        except ApiError as error:
            response = error.response()
        except Exception as error:
            self._world.problems.append(f"{request.method} {request.path}: {error!r}")
            response = ApiError(500, 0, "500: Internal Server Error").response()
        response.headers.update(headers)
        return response

    def _cut(self, request: web.Request, recorded: Recorded) -> web.Response:
        recorded.status = 0
        cut(request.transport)
        self._world.changes.notify()
        return web.Response()

    async def _body(self, request: web.Request) -> Any:
        raw = await request.read()
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            return raw.decode(errors="replace")
