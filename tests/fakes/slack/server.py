"""FakeSlack: the whole of it, listening on a loopback port while the test runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, Self

from aiohttp import web

from tests.fakes.slack.delivery import ACK_SECONDS, RETRY_DELAYS, Delivery
from tests.fakes.slack.stage import Stage
from tests.fakes.slack.state import SIGNING_SECRET
from tests.fakes.slack.web_api import APP_TOKEN, BOT_TOKEN, Call, WebApi

if TYPE_CHECKING:
    from types import TracebackType

    from tests.fakes.slack.workspace import Channel, Message, User

__all__ = ["APP_TOKEN", "BOT_TOKEN", "SIGNING_SECRET", "FakeSlack"]


class FakeSlack(Stage):
    """Slack on 127.0.0.1.

    `transport` says how events reach the app: over the app's Socket Mode connections, or
    posted to `fake.http.target`. `ack_seconds` and `retry_delays` shorten Slack's own
    waits (3 s; at once, 1 min, 5 min). Closing it raises if the app did anything that the
    fake could not judge, such as calling an unknown method.
    """

    def __init__(
        self,
        *,
        transport: Literal["socket", "http"] = "socket",
        ack_seconds: float = ACK_SECONDS,
        retry_delays: tuple[float, ...] = RETRY_DELAYS,
        manifest: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(transport=transport, ack_seconds=ack_seconds, retry_delays=retry_delays)
        self.bot_token = BOT_TOKEN
        self.app_token = APP_TOKEN
        self.signing_secret = SIGNING_SECRET
        self.api = WebApi(self)
        self._seen: set[int] = set()
        self._runner: web.AppRunner | None = None
        if manifest is not None:
            self.install(manifest)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/api/{method}", self.api.handle)
        app.router.add_get("/link/", self.socket.handle)
        app.router.add_post("/respond/{key}", self.handle_response_url)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}"
        self.socket.base_url = f"ws://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.lose_deliveries()
        await self.socket.close()
        await self.http.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if error is None and self.failures:
            raise AssertionError("; ".join(self.failures))

    @property
    def api_url(self) -> str:
        """The base address for `AsyncWebClient(base_url=…)`."""
        return f"{self.base_url}/api/"

    def calls(self, method: str) -> list[Call]:
        return self.api.of(method)

    # --- watching ---------------------------------------------------------------------

    def messages(
        self, channel: Channel, *, by: User | None = None, thread: Message | None = None
    ) -> list[Message]:
        """What stands in the channel now, oldest first."""
        return [
            message
            for message in self.workspace.messages[channel.id]
            if not message.deleted
            and (by is None or message.user is by)
            and (thread is None or message.root_ts == thread.root_ts)
        ]

    async def wait_for_message(
        self,
        channel: Channel,
        *,
        by: User | None = None,
        thread: Message | None = None,
        containing: str = "",
        timeout: float = 20.0,
    ) -> Message:
        """The next message there, once it is complete; each message is returned once."""
        author = by or self.bot

        def probe() -> Message | None:
            for message in self.messages(channel, by=author, thread=thread):
                fresh = id(message) not in self._seen and message.finished
                if fresh and containing in message.text:
                    self._seen.add(id(message))
                    return message
            return None

        def what() -> str:
            there = [(m.user.name, m.text[:80]) for m in self.messages(channel)]
            last = [(call.method, call.outcome) for call in self.api.calls[-5:]]
            return f"no new message by {author.name}; there is {there}; last calls {last}"

        return await self.until(probe, timeout, what)

    async def wait_for_ephemeral(self, user: User, *, timeout: float = 20.0) -> Message:
        """The next message that only `user` can see."""

        def probe() -> Message | None:
            for message in self.workspace.ephemerals:
                if message.ephemeral_for == user.id and id(message) not in self._seen:
                    self._seen.add(id(message))
                    return message
            return None

        return await self.until(probe, timeout, lambda: f"nothing shown to {user.name} alone")

    async def wait_for_call(
        self, method: str, *, count: int = 1, timeout: float = 20.0
    ) -> list[Call]:
        """Until the app has called `method` at least `count` times."""

        def probe() -> list[Call] | None:
            found = self.calls(method)
            return found if len(found) >= count else None

        return await self.until(
            probe, timeout, lambda: f"{len(self.calls(method))} of {count} calls of {method}"
        )

    async def wait_delivered(self, *, timeout: float = 20.0) -> list[Delivery]:
        """Until every event so far is acknowledged or given up."""

        def probe() -> list[Delivery] | None:
            return self.deliveries if not self._carrying else None

        return await self.until(
            probe, timeout, lambda: f"{len(self._carrying)} deliveries unacknowledged"
        )

    async def wait_quiet(self, seconds: float = 0.2, *, timeout: float = 30.0) -> None:
        """Until nothing has been called or delivered for `seconds`."""
        async with asyncio.timeout(timeout):
            while True:
                before = len(self.api.calls), len(self.deliveries)
                await asyncio.sleep(seconds)
                busy = self.api.in_flight or self._carrying
                if not busy and before == (len(self.api.calls), len(self.deliveries)):
                    return
