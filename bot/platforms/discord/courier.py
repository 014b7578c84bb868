"""Posting on Discord: every call that speaks, with the retries that discord.py leaves out.

discord.py retries 500, 502, 504, 524 and Discord's own 429. It does not retry 503, 520, 522,
Cloudflare's 429 or a broken connection; and a broken connection does not tell whether the message
was posted. Here those are tried again, which is safe because every message carries a nonce with
`enforce_nonce`: a second post of the same nonce returns the first one.
https://discord.com/developers/docs/resources/message#create-message

The courier has a REST session of its own, so that a gateway that has to be restarted does not
take the replies under way with it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import aiohttp
import discord
import stamina
import structlog
from cachetools import TTLCache

from bot.errors import BadToken, DeliveryFailed
from bot.platforms.discord.history import read_history

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")

_log = structlog.get_logger(__name__)

MAX_CHARACTERS = 2000
_HISTORY_LIMIT = 500
_REFUSAL_SECONDS = 3600.0

_UNKNOWN_MESSAGE = 10008
_CLOSED_DMS = 50007
_NO_HISTORY_FOR_REPLY = frozenset({160002, 160009})

LOGIN_REFUSED = (
    "Discord does not know this bot token. Copy a fresh one from the developer portal "
    "(your application, Bot, Reset Token) into DISCORD_TOKEN."
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on with one call.

    Attributes:
        attempts: tries in all.
        first_wait: seconds before the second try; doubled from then on, with jitter.
        longest_wait: seconds.
        attempt_seconds: for one try, discord.py's own waiting for rate limits included.
        banned_wait: seconds to keep quiet after Cloudflare's 429.
    """

    attempts: int = 5
    first_wait: float = 0.5
    longest_wait: float = 10.0
    attempt_seconds: float = 60.0
    banned_wait: float = 30.0


@dataclass(frozen=True, slots=True)
class Posted:
    """A message of friend's own, as Discord has it. `answers` is the id it replies to, or 0."""

    id: int
    content: str
    answers: int = 0


class Courier:
    """Friend's voice on Discord.

    Every method raises `DeliveryFailed`; its `retryable` says whether Discord may take the same
    words later.
    """

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._client: discord.Client | None = None
        self._no_typing: TTLCache[int, DeliveryFailed] = TTLCache(10_000, _REFUSAL_SECONDS)
        """Channels where it was refused: asking on would count towards Discord's ban."""

    async def close(self) -> None:
        """End the REST session."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def log_in(self, token: str) -> discord.ClientUser:
        """Check the token, once Discord can be reached, and return who friend is there.

        Raises:
            BadToken: Discord does not know the token.
            DeliveryFailed: Discord cannot be reached now.
        """
        await self.close()
        try:
            self._client = await self.attempt(lambda: _logged_in(token))
        except discord.LoginFailure as error:
            raise BadToken(LOGIN_REFUSED) from error
        except discord.HTTPException as error:
            reason = f"Discord did not let friend log in (HTTP {error.status})."
            raise DeliveryFailed(reason, retryable=True) from error
        assert self._client.user is not None
        return self._client.user

    async def send(
        self, channel: int, guild: int | None, text: str, *, nonce: str, answers: int | None = None
    ) -> Posted | None:
        """Post once, however often this is called with the same nonce within minutes.

        The returned content is what stands there: the earlier one, if the nonce was known. None
        means that a message with this nonce was posted and then deleted by somebody, on which
        Discord answers "Unknown Message".
        """
        place = self._place(channel, guild)

        async def post() -> discord.Message:
            if answers is None:
                return await place.send(text, nonce=nonce)
            # A reply is still posted, as a plain message, when what it answers has been deleted.
            reference = discord.MessageReference(
                message_id=answers, channel_id=channel, guild_id=guild, fail_if_not_exists=False
            )
            return await place.send(text, nonce=nonce, reference=reference, mention_author=False)

        try:
            message = await self.attempt(post)
        except discord.HTTPException as error:
            if error.code in _NO_HISTORY_FOR_REPLY and answers is not None:
                return await self.send(channel, guild, text, nonce=nonce)
            if error.code == _UNKNOWN_MESSAGE:
                return None
            raise self._failed(error, channel) from error
        return _posted(message)

    async def edit(self, channel: int, guild: int | None, message: int, text: str) -> bool:
        """Change a message of friend's; False if somebody has deleted it."""
        target = self._place(channel, guild).get_partial_message(message)
        return await self._unless_gone(lambda: target.edit(content=text), channel)

    async def delete(self, channel: int, guild: int | None, message: int) -> bool:
        """Delete a message of friend's; False if it was gone already."""
        target = self._place(channel, guild).get_partial_message(message)
        return await self._unless_gone(target.delete, channel)

    async def typing(self, channel: int, guild: int | None) -> None:
        """Show "friend is typing" for 10 s, or until friend posts; tried once, where it may."""
        if (refused := self._no_typing.get(channel)) is not None:
            raise refused
        try:
            await self._place(channel, guild).typing()
        except discord.HTTPException as error:
            failure = self._failed(error, channel)
            if not failure.retryable:
                self._no_typing[channel] = failure
            raise failure from error
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error

    async def own_messages(self, channel: int, guild: int | None, after: int) -> Sequence[Posted]:
        """What friend has posted there since the message `after`, oldest first.

        Empty where friend may not read the history: then only the nonce prevents a second post.
        Discord does not store nonces, so they are not among what is read here.
        """
        place = self._place(channel, guild)
        client = self._client
        assert client is not None

        async def read() -> list[Posted]:
            said = await read_history(client, place, after=after, limit=_HISTORY_LIMIT)
            return [_posted(message) for message in said if message.author == client.user]

        try:
            return await self.attempt(read)
        except discord.Forbidden:
            _log.warning("discord.history_hidden", channel=channel)
            return []
        except discord.HTTPException as error:
            raise self._failed(error, channel) from error

    def _place(self, channel: int, guild: int | None) -> discord.PartialMessageable:
        if self._client is None:
            raise DeliveryFailed("Discord is not connected yet.", retryable=True)
        return self._client.get_partial_messageable(channel, guild_id=guild)

    @property
    def me(self) -> discord.ClientUser | None:
        """Who friend is on Discord; None before it has logged in."""
        return self._client.user if self._client is not None else None

    async def _unless_gone(self, call: Callable[[], Awaitable[object]], channel: int) -> bool:
        try:
            await self.attempt(call)
        except discord.NotFound as error:
            if error.code == _UNKNOWN_MESSAGE:
                return False
            raise self._failed(error, channel) from error
        except discord.HTTPException as error:
            raise self._failed(error, channel) from error
        return True

    async def attempt(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it works or fails for good; network trouble comes out as DeliveryFailed."""
        patience = self._patience
        try:
            async for attempt in stamina.retry_context(
                on=self._again,
                attempts=patience.attempts,
                timeout=None,
                wait_initial=patience.first_wait,
                wait_max=patience.longest_wait,
                wait_jitter=patience.first_wait,
            ):
                with attempt:
                    async with asyncio.timeout(patience.attempt_seconds):
                        return await call()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable(error) from error
        raise AssertionError("stamina either returns or raises")

    def _again(self, error: Exception) -> bool | float:
        """Whether to try again, or after how many seconds."""
        if isinstance(error, discord.HTTPException):
            if error.status == 429:
                return self._patience.banned_wait
            return error.status >= 500
        return isinstance(error, aiohttp.ClientError | OSError | TimeoutError)

    def _failed(self, error: discord.HTTPException, channel: int) -> DeliveryFailed:
        """The sentence for an answer that no further try now would change."""
        if error.status == 429 or error.status >= 500:
            reason = f"Discord did not take a message (HTTP {error.status}); it is tried again."
            return DeliveryFailed(reason, retryable=True)
        if error.code == _CLOSED_DMS:
            reason = "This person does not accept direct messages from friend."
        elif isinstance(error, discord.Forbidden):
            reason = (
                f"friend may not post in channel {channel}: give it View Channel, Send Messages, "
                "Send Messages in Threads and Read Message History there."
            )
        elif isinstance(error, discord.NotFound):
            reason = f"Channel {channel} is gone."
        elif error.status == 401:
            reason = LOGIN_REFUSED
        else:
            reason = f"Discord refused a message: {error}"
            return DeliveryFailed(reason, retryable=False, words_refused=error.status == 400)
        return DeliveryFailed(reason, retryable=False)


async def _logged_in(token: str) -> discord.Client:
    """A client with a REST session and no gateway; a new one for each try, as login demands."""
    client = discord.Client(
        intents=discord.Intents(guilds=True),
        max_messages=None,
        allowed_mentions=discord.AllowedMentions.none(),
    )
    try:
        await client.login(token)
    except BaseException:
        await client.close()
        raise
    return client


def _posted(message: discord.Message) -> Posted:
    reference = message.reference
    answers = reference.message_id if reference is not None else None
    return Posted(message.id, message.content, answers or 0)


def _unreachable(error: Exception) -> DeliveryFailed:
    what = str(error) or type(error).__name__
    return DeliveryFailed(f"Discord could not be reached ({what}).", retryable=True)
