"""Discord as the core sees it, and the supervisor that keeps friend on it."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import aiohttp
import discord
import structlog

from bot.errors import BadToken, DeliveryFailed, MissingIntent, PlatformFailed
from bot.platforms.discord.client import Listener, ShardedListener
from bot.platforms.discord.courier import LOGIN_REFUSED, Courier, Patience
from bot.platforms.discord.incoming import NAME, my_names
from bot.platforms.discord.outlet import DiscordOutlet, Pace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from bot.core.friend import Friend
    from bot.settings import DiscordSettings

_log = structlog.get_logger(__name__)

_AUTHENTICATION_FAILED = 4004
_SHARDING_REQUIRED = 4011

MISSING_INTENT = (
    "Discord does not grant friend the message-content intent. Enable it in the developer portal "
    "(your application, Bot, Privileged Gateway Intents), or set DISCORD_MESSAGE_CONTENT=false."
)


class DiscordPlatform:
    """Friend on Discord.

    Args:
        settings: with a token.
        restart_seconds: (first, longest) wait before the gateway client is started again. Discord
            allows 1000 sessions a day, so the longest must be minutes.
        steady_seconds: a client that ran this long is not held for one that crashes at once.
    """

    name = NAME

    def __init__(
        self,
        settings: DiscordSettings,
        *,
        pace: Pace | None = None,
        patience: Patience | None = None,
        restart_seconds: tuple[float, float] = (1.0, 300.0),
        steady_seconds: float = 60.0,
    ) -> None:
        self._settings = settings
        self._pace = pace or Pace()
        self._courier = Courier(patience)
        self._restart_seconds = restart_seconds
        self._steady_seconds = steady_seconds
        self._listener: Listener | None = None
        self._recovered = False
        # friend has no voice: discord.py need not warn that it lacks the libraries for one.
        discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False

    @property
    def is_connected(self) -> bool:
        """Whether messages can be heard now; for health checks."""
        return self._listener is not None and self._listener.hears

    def outlet(
        self, address: Mapping[str, str], reply_key: str, *, recovering: bool
    ) -> DiscordOutlet:
        """The way back to a message; see `bot.core.platform.Platform`."""
        listener = self._listener
        guild = listener.get_guild(int(address.get("guild", 0))) if listener else None
        return DiscordOutlet(
            self._courier,
            address,
            reply_key,
            recovering=recovering,
            pace=self._pace,
            own_names=my_names(guild, self._courier.me),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Hang up for good: from here on nothing can be posted."""
        await self._courier.close()

    async def run(self, friend: Friend) -> None:
        """Be on Discord until cancelled: log in, pay what is owed, listen.

        When this ends friend no longer hears, but can still post, so that replies under way can be
        finished; leaving the platform's context ends that too.

        Raises:
            BadToken: Discord does not know the token.
            MissingIntent: message content is asked for and not enabled in the portal.
            PlatformFailed: Discord refuses for another reason that waiting does not mend.
        """
        await self._log_in()
        if not self._recovered:
            await friend.recover(NAME)
            self._recovered = True
        await self._supervise(friend)

    async def _log_in(self) -> None:
        wait, longest = self._restart_seconds
        while True:
            try:
                me = await self._courier.log_in(self._token)
            except DeliveryFailed as error:
                _log.warning("discord.login_failed", error=str(error), again_in_seconds=wait)
                await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311
                wait = min(wait * 2, longest)
            else:
                _log.info("discord.logged_in", name=str(me), id=me.id)
                return

    async def _supervise(self, friend: Friend) -> None:
        """Run gateway clients one after the other.

        discord.py reconnects by itself, but a payload it cannot parse, and some failures at the
        first connect, end it; a new client then takes over after a pause that grows.
        """
        listener_type: type[Listener] = Listener
        first, longest = self._restart_seconds
        wait = first
        while True:
            began = time.monotonic()
            self._listener = listener = listener_type(friend, self._settings, self._courier)
            try:
                async with listener:
                    await listener.start(self._token)
            except (discord.LoginFailure, discord.PrivilegedIntentsRequired) as error:
                raise _explained(error) from error
            except discord.ConnectionClosed as error:
                if error.code == _SHARDING_REQUIRED and listener_type is Listener:
                    listener_type = ShardedListener
                    continue
                if error.code in {_AUTHENTICATION_FAILED, 4010, 4012, 4013}:
                    raise _explained(error) from error
                _log.warning("discord.closed", code=error.code)
            except (discord.DiscordException, aiohttp.ClientError, OSError) as error:
                _log.warning("discord.client_stopped", error=str(error))
            except Exception:  # noqa: BLE001 - whatever a payload does, friend comes back
                _log.exception("discord.client_crashed")
            finally:
                self._listener = None
            if time.monotonic() - began >= self._steady_seconds:
                wait = first
            _log.info("discord.restarting", in_seconds=wait)
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311
            wait = min(wait * 2, longest)

    @property
    def _token(self) -> str:
        return self._settings.token.get_secret_value()


def _explained(error: Exception) -> PlatformFailed:
    """The sentence for a refusal that waiting does not mend."""
    if isinstance(error, discord.PrivilegedIntentsRequired):
        return MissingIntent(MISSING_INTENT)
    code = getattr(error, "code", _AUTHENTICATION_FAILED)
    if code == _AUTHENTICATION_FAILED:
        return BadToken(LOGIN_REFUSED)
    return PlatformFailed(f"Discord closed the connection for good (code {code}).")
