"""Faults for REST: what a request meets instead of, or after, its handling.

Which of them discord.py retries by itself differs from case to case, so each is its own kind.
"""

from __future__ import annotations

import asyncio
import fnmatch
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

from tests.fakes.discord.wire import VIA, ApiError, json_response

CLOUDFLARE_PAGE = (
    "<!DOCTYPE html><html><head><title>Access denied | discord.com</title></head></html>"
)


@dataclass(frozen=True)
class Status:
    """An HTML error page with this status; nothing is done. 520 and 522 are Cloudflare's own."""

    status: int


@dataclass(frozen=True)
class RateLimited:
    """429 by Discord: with ``Via`` and JSON, so that the client waits and tries again."""

    retry_after: float = 0.2
    scope: Literal["user", "global", "shared"] = "user"


@dataclass(frozen=True)
class CloudflareBan:
    """429 by Cloudflare: HTML and no ``Via``; discord.py raises at once."""


@dataclass(frozen=True)
class Refusal:
    """An API error, by default 403 with 50013 Missing Permissions."""

    status: int = 403
    code: int = 50013
    message: str = "Missing Permissions"


@dataclass(frozen=True)
class Hang:
    """No answer for ``seconds``, then the request is handled as usual."""

    seconds: float


@dataclass(frozen=True)
class Reset:
    """The connection is reset before anything is done."""


@dataclass(frozen=True)
class LostResponse:
    """The request is carried out, and the connection breaks before the answer."""


@dataclass(frozen=True)
class LateResponse:
    """The request is carried out at once, and answered ``seconds`` later."""

    seconds: float


Fault = Status | RateLimited | CloudflareBan | Refusal | Hang | Reset | LostResponse | LateResponse


@dataclass
class _Planned:
    method: str
    path: str
    fault: Fault
    times: int
    hits: int = 0

    def matches(self, method: str, path: str) -> bool:
        return (
            self.times > self.hits
            and self.method in ("*", method)
            and fnmatch.fnmatchcase(path, self.path)
        )


@dataclass
class Faults:
    """Planned faults, taken in the order they were planned."""

    planned: list[_Planned] = field(default_factory=list)

    def next(
        self, method: str, path: str, fault: Fault | None = None, *, status: int = 0, times: int = 1
    ) -> _Planned:
        """Let the next ``times`` requests to ``path`` meet ``fault``, or ``Status(status)``.

        ``path`` is without ``/api/v10``; ``*`` in it matches anything, slashes too.
        """
        if fault is None:
            fault = Status(status)
        planned = _Planned(method, path, fault, times)
        self.planned.append(planned)
        return planned

    def clear(self) -> None:
        self.planned.clear()

    def take(self, method: str, path: str) -> Fault | None:
        for planned in self.planned:
            if planned.matches(method, path):
                planned.hits += 1
                return planned.fault
        return None


async def answer(fault: Fault) -> web.Response | None:
    """The response that stands for ``fault``; None when the request is to be handled."""
    match fault:
        case Status(status):
            page = f"<html><head><title>{status}</title></head></html>"
            return web.Response(status=status, text=page, content_type="text/html")
        case RateLimited(retry_after, scope):
            return rate_limited(retry_after, scope)
        case CloudflareBan():
            return web.Response(status=429, text=CLOUDFLARE_PAGE, content_type="text/html")
        case Refusal(status, code, message):
            return ApiError(status, code, message).response()
        case Hang(seconds):
            await asyncio.sleep(seconds)
    return None


def rate_limited(retry_after: float, scope: str) -> web.Response:
    """https://discord.com/developers/docs/topics/rate-limits#exceeding-a-rate-limit"""
    headers = {"Retry-After": str(max(1, round(retry_after))), "X-RateLimit-Scope": scope, **VIA}
    if scope == "global":
        headers["X-RateLimit-Global"] = "true"
    body = {
        "message": "You are being rate limited.",
        "retry_after": retry_after,
        "global": scope == "global",
    }
    return json_response(body, status=429, headers=headers)
