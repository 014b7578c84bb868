"""The Web API's front door: reads the request, checks the token, runs the method."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.slack.faults import answer_with, break_connection
from tests.fakes.slack.methods import METHODS, Method, SlackError

if TYPE_CHECKING:
    from tests.fakes.slack.server import FakeSlack

APP_TOKEN = "xapp-1-A0FAKEAPP-fake-app-token"
BOT_TOKEN = "xoxb-fake-bot-token"


@dataclass(frozen=True)
class Call:
    """One request as it came in, and how it was answered."""

    method: str
    arguments: dict[str, Any]
    at: float
    outcome: str
    """`ok`, an error code, or the fault that was applied."""


class WebApi:
    """Serves `POST /api/<method>`."""

    def __init__(self, fake: FakeSlack) -> None:
        self._fake = fake
        self.calls: list[Call] = []
        self.in_flight = 0

    def of(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method]

    async def handle(self, request: web.Request) -> web.Response:
        self.in_flight += 1
        try:
            return await self._handle(request)
        finally:
            self.in_flight -= 1
            self._fake.tell()

    async def _handle(self, request: web.Request) -> web.Response:
        name = request.match_info["method"]
        arguments = await _arguments(request)
        fault = self._fake.faults.take(name)
        if fault is not None and fault.slow is not None:
            await asyncio.sleep(fault.slow)
            fault = None
        if fault is not None and not fault.lost:
            self._record(name, arguments, "fault")
            return await answer_with(fault, request)
        wait = self._fake.limits.seconds_to_wait(name)
        if wait is not None:
            self._record(name, arguments, "ratelimited")
            body = {"ok": False, "error": "ratelimited"}
            return web.json_response(body, status=429, headers={"Retry-After": str(wait)})
        answer = self._run(name, arguments, _token(request, arguments))
        self._record(name, arguments, "lost" if fault else str(answer.get("error", "ok")))
        if fault is not None:
            break_connection(request, reset=False)
            return web.Response()
        return web.json_response(
            answer, headers={"X-OAuth-Scopes": ",".join(sorted(self._fake.scopes))}
        )

    def _record(self, name: str, arguments: dict[str, Any], outcome: str) -> None:
        self.calls.append(Call(name, arguments, self._fake.clock.now(), outcome))

    def _run(self, name: str, arguments: dict[str, Any], token: str | None) -> dict[str, Any]:
        method = METHODS.get(name)
        if method is None:
            self._fake.fail(f"the app called {name!r}, which the fake Slack does not know")
            return {"ok": False, "error": "unknown_method", "req_method": name}
        try:
            self._authorize(method, token)
            missing = [key for key in method.required if arguments.get(key) in (None, "")]
            if missing:
                raise SlackError("invalid_arguments", missing=missing)
            return {"ok": True, **method.run(self._fake, arguments)}
        except SlackError as error:
            return {"ok": False, "error": error.code, **error.extra}

    def _authorize(self, method: Method, token: str | None) -> None:
        if not token:
            raise SlackError("not_authed")
        if token not in (self._fake.bot_token, self._fake.app_token):
            raise SlackError("invalid_auth")
        if (token == self._fake.app_token) != method.app_token:
            raise SlackError("not_allowed_token_type")
        if method.scopes and not method.app_token:
            self._fake.need_scope(*method.scopes)


async def _arguments(request: web.Request) -> dict[str, Any]:
    """Arguments wherever the SDK put them: query, form or JSON body."""
    arguments: dict[str, Any] = dict(request.query)
    if request.content_type == "application/json":
        arguments.update(json.loads(await request.read() or b"{}"))
    else:
        arguments.update({key: str(value) for key, value in (await request.post()).items()})
        for key in ("view", "blocks", "metadata", "chunks", "prompts"):
            if isinstance(arguments.get(key), str):
                arguments[key] = json.loads(arguments[key])
    return arguments


def _token(request: web.Request, arguments: dict[str, Any]) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Bearer" and token:
        return token
    token = arguments.pop("token", "")
    return str(token) or None
