"""Socket Mode, with a watchdog over the SDK's own reconnecting.

The SDK notices a socket without pongs after some 40 s and opens a new one. What it does not
notice: that its own tasks have died, and a socket on which pongs come but events do not. The
watchdog leaves the SDK time to help itself, then starts over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

import structlog
from aiohttp import WSMessage
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import FriendError
from bot.platforms.slack.failures import TRANSPORT_ERRORS
from bot.platforms.slack.signin import open_socket

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SocketTimes:
    """The watchdog's patience, in seconds.

    Attributes:
        ping: between pings; the SDK gives a socket up after four without an answer.
        grace: how long a broken socket may stay so before the watchdog starts over.
        silence: without a single event for so long, a fresh socket is opened, in case this one
            has gone deaf. What Slack could not deliver on the old one, it sends again.
    """

    ping: float = 10.0
    grace: float = 45.0
    silence: float = 900.0
    check: float = 5.0


class SocketConnection:
    """Keeps one Socket Mode connection alive."""

    def __init__(
        self, app: AsyncApp, client: AsyncWebClient, app_token: str, times: SocketTimes
    ) -> None:
        self._app = app
        self._client = client
        self._app_token = app_token
        self._times = times
        self._last_frame = 0.0
        self._handler: AsyncSocketModeHandler | None = None

    @property
    def is_up(self) -> bool:
        """Whether the socket is open."""
        session = self._handler.client.current_session if self._handler else None
        return session is not None and not session.closed

    async def run(self, connected: asyncio.Event) -> None:
        """Connect and stay so until cancelled; sets `connected` once the first socket is open.

        Raises:
            PlatformFailed: Slack does not accept the app token.
            FriendError: Slack cannot be reached; run it again.
        """
        self._handler = await self._open()
        try:
            while True:
                connected.set()
                await self._watch(self._handler)
                fresh = await self._open()  # before the old one goes, so that no event waits
                old, self._handler = self._handler, fresh
                await old.close_async()  # type: ignore[no-untyped-call]
                _log.info("slack.socket_replaced")
        finally:
            await self._handler.close_async()  # type: ignore[no-untyped-call]
            self._handler = None

    async def _open(self) -> AsyncSocketModeHandler:
        """A handler of the SDK's on an open socket."""
        handler = AsyncSocketModeHandler(
            self._app,
            self._app_token,
            web_client=self._client,
            logger=logging.getLogger(__name__),
            ping_interval=self._times.ping,
        )
        handler.client.on_message_listeners.append(self._on_frame)
        try:
            handler.client.wss_uri = await open_socket(self._client, self._app_token)
            async with asyncio.timeout(self._times.grace):
                await handler.connect_async()  # type: ignore[no-untyped-call]
        except BaseException as error:
            await handler.close_async()  # type: ignore[no-untyped-call]
            if isinstance(error, TRANSPORT_ERRORS):
                raise FriendError("Slack opens no socket; friend tries again by itself.") from error
            raise
        self._last_frame = time.monotonic()
        return handler

    async def _watch(self, handler: AsyncSocketModeHandler) -> None:
        """Return when the handler should be replaced."""
        broken_since: float | None = None
        while True:
            await asyncio.sleep(self._times.check)
            now = time.monotonic()
            if await _is_working(handler):
                broken_since = None
            elif broken_since is None:
                broken_since = now
            elif now - broken_since >= self._times.grace:
                _log.warning("slack.socket_broken", for_seconds=round(now - broken_since))
                return
            if now - self._last_frame >= self._times.silence:
                _log.info("slack.socket_silent", for_seconds=round(now - self._last_frame))
                return

    async def _on_frame(self, message: WSMessage) -> None:
        self._last_frame = time.monotonic()


async def _is_working(handler: AsyncSocketModeHandler) -> bool:
    """Whether the socket is open and the SDK's three tasks are alive."""
    client = handler.client
    tasks = (client.message_receiver, client.message_processor, client.current_session_monitor)
    alive = all(task is not None and not task.done() for task in tasks)
    return alive and await client.is_connected()
