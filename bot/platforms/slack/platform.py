"""Slack as a place where people talk to friend."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self

import aiohttp
import structlog
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.core.friend import Friend
from bot.errors import BadToken
from bot.platforms.slack.address import Address
from bot.platforms.slack.client import CALL_SECONDS, web_client
from bot.platforms.slack.draft import StreamBudgets
from bot.platforms.slack.incoming import PLATFORM
from bot.platforms.slack.listeners import bolt_app
from bot.platforms.slack.outlet import SlackOutlet
from bot.platforms.slack.signed_http import SignedHttpServer
from bot.platforms.slack.signin import Identity, sign_in
from bot.platforms.slack.socket import SocketConnection, SocketTimes
from bot.platforms.slack.status import Refusals
from bot.settings import SlackSettings

_log = structlog.get_logger(__name__)


class SlackPlatform:
    """See `bot.core.platform.Platform`.

    Socket Mode with an app token, signed HTTP with a signing secret instead. Enter its context
    before replies are made, and leave it after the last one.

    Attributes:
        connected: set once events can arrive.
    """

    name = PLATFORM

    def __init__(
        self,
        settings: SlackSettings,
        *,
        api_url: str = AsyncWebClient.BASE_URL,
        socket_times: SocketTimes | None = None,
    ) -> None:
        self._settings = settings
        self._times = socket_times or SocketTimes()
        self._client = web_client(settings.bot_token.get_secret_value(), api_url=api_url)
        self._budgets = StreamBudgets()
        self._refusals = Refusals()
        self._me: Identity | None = None
        self._receiver: SocketConnection | SignedHttpServer | None = None
        self._recovered = False
        self.connected = asyncio.Event()

    @property
    def http_url(self) -> str:
        """Where friend listens for signed HTTP events; empty in Socket Mode."""
        return self._receiver.url if isinstance(self._receiver, SignedHttpServer) else ""

    @property
    def is_connected(self) -> bool:
        """Whether events can arrive now; for health checks."""
        return self._receiver is not None and self._receiver.is_up

    async def __aenter__(self) -> Self:
        """Keep connections to the Web API open for as long as replies may be posted."""
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
        self._client.session = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close them."""
        session, self._client.session = self._client.session, None
        if session is not None:
            await session.close()

    async def run(self, friend: Friend) -> None:
        """See `bot.core.platform.Platform`."""
        self._me = await sign_in(self._client)
        _log.info("slack.signed_in", team=self._me.team, user=self._me.user_id)
        receiver = self._receiver_for(friend, self._me)
        if not self._recovered:
            await friend.recover(self.name)  # before events come: theirs are no old debts
            self._recovered = True
        self.connected.clear()
        self._receiver = receiver
        try:
            await receiver.run(self.connected)
        finally:
            self._receiver = None

    def _receiver_for(self, friend: Friend, me: Identity) -> SocketConnection | SignedHttpServer:
        app_token = self._settings.app_token.get_secret_value()
        secret = self._settings.signing_secret.get_secret_value()
        if app_token:
            app = self._app(friend, me, signing_secret=None)
            return SocketConnection(app, self._client, app_token, self._times)
        if not secret:
            raise BadToken(
                "Slack needs one more secret: SLACK_APP_TOKEN (Socket Mode, recommended) or "
                "SLACK_SIGNING_SECRET (signed HTTP events)."
            )
        app = self._app(friend, me, signing_secret=secret)
        return SignedHttpServer(app, host=self._settings.http_host, port=self._settings.http_port)

    def _app(self, friend: Friend, me: Identity, *, signing_secret: str | None) -> AsyncApp:
        return bolt_app(
            self._client,
            me,
            friend,
            signing_secret=signing_secret,
            wake_on_open=self._settings.wake_on_open,
            proxies=self._settings.proxy_applications,
        )

    def outlet(
        self, address: Mapping[str, str], reply_key: str, *, recovering: bool
    ) -> SlackOutlet:
        """See `bot.core.platform.Platform`."""
        return SlackOutlet(
            self._client,
            Address.read(address),
            reply_key,
            own_id=self._me.user_id if self._me else "",
            budgets=self._budgets,
            refusals=self._refusals,
            recovering=recovering,
            own_names=frozenset({self._me.name} if self._me else ()),
        )
