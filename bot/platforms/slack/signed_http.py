"""Signed HTTP: Slack posts events to an address of friend's.

Bolt verifies each request's signature (v0, HMAC over the raw body) and refuses one that is more
than five minutes old.
"""

from __future__ import annotations

import asyncio

import structlog
from aiohttp import web
from slack_bolt.async_app import AsyncApp

from bot.errors import PlatformFailed

_log = structlog.get_logger(__name__)

PATH = "/slack/events"


class SignedHttpServer:
    """The endpoint for events, commands and shortcuts."""

    def __init__(self, app: AsyncApp, *, host: str, port: int) -> None:
        self._app = app
        self._host = host
        self._port = port
        self.url = ""
        self.is_up = False

    async def run(self, connected: asyncio.Event) -> None:
        """Serve until cancelled.

        Raises:
            PlatformFailed: the address is taken.
        """
        runner = web.AppRunner(self._app.web_app(path=PATH), access_log=None)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, self._host, self._port).start()
            except OSError as error:
                raise PlatformFailed(
                    f"friend cannot listen for Slack on {self._host} port {self._port} "
                    f"({error.strerror}). Choose another SLACK_HTTP_PORT."
                ) from error
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}{PATH}"
            _log.info("slack.listening", url=self.url)
            self.is_up = True
            connected.set()
            await asyncio.Event().wait()
        finally:
            self.is_up = False
            await runner.cleanup()
