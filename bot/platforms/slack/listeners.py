"""What friend registers with Bolt: events, the slash commands, the message shortcut.

Bolt runs a listener before it acknowledges (`process_before_response`): an event whose message
could not be stored is not acknowledged, and Slack sends it again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Collection
from typing import Any

import structlog
from slack_bolt.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_bolt.context.respond.async_respond import AsyncRespond
from slack_sdk.web.async_client import AsyncWebClient

from bot import texts
from bot.core.conversation import ConversationKey
from bot.core.friend import Friend
from bot.errors import StoreFailed
from bot.platforms.slack.failures import CALL_ERRORS
from bot.platforms.slack.hearing import Hearing
from bot.platforms.slack.incoming import PLATFORM, key_of
from bot.platforms.slack.manifest import FORGET_COMMAND, RESET_COMMAND, RESET_SHORTCUT
from bot.platforms.slack.signin import Identity

_log = structlog.get_logger(__name__)


class _Listeners:
    """What Bolt calls; it fills the parameters in by their names."""

    def __init__(self, friend: Friend, hearing: Hearing, me: Identity) -> None:
        self._friend = friend
        self._hearing = hearing
        self._me = me

    async def on_event(self, event: dict[str, Any]) -> None:
        await self._hearing.on_event(event)

    async def on_open(self, event: dict[str, Any]) -> None:
        self._hearing.on_open(event)

    async def on_other_event(self) -> None:
        """An app may be subscribed to more; unacknowledged, Slack would send it again."""

    async def on_reset(self, ack: AsyncAck, command: dict[str, Any]) -> None:
        channel = ConversationKey(PLATFORM, self._me.team_id, str(command["channel_id"]))
        reset = self._friend.reset_for(
            channel,
            str(command["user_id"]),
            is_direct=channel.channel.startswith("D"),
            with_threads=True,
        )
        await ack(await _or_sorry(reset))

    async def on_forget(self, ack: AsyncAck, command: dict[str, Any]) -> None:
        await ack(await _or_sorry(self._friend.forget(PLATFORM, str(command["user_id"]))))

    async def on_shortcut(
        self, ack: AsyncAck, shortcut: dict[str, Any], respond: AsyncRespond
    ) -> None:
        await ack()
        said = await _or_sorry(self._reset_of(shortcut))
        try:
            await respond(said)
        except CALL_ERRORS as error:
            _log.warning("slack.not_responded", error=repr(error))

    async def _reset_of(self, shortcut: dict[str, Any]) -> str:
        """Reset the conversation of the message that the shortcut was used on."""
        message, channel = shortcut.get("message") or {}, shortcut.get("channel") or {}
        if not message.get("ts") or not channel.get("id"):
            return texts.WHERE_ARE_WE
        conversation = key_of({**message, "channel": channel["id"]}, self._me.team_id)
        return await self._friend.reset_for(
            conversation,
            str(shortcut["user"]["id"]),
            is_direct=conversation.channel.startswith("D"),
        )


async def _or_sorry(doing: Awaitable[str]) -> str:
    """What to tell the person; that the history is down, if it is."""
    try:
        return await doing
    except StoreFailed as error:
        _log.error("store.failed", error=str(error))
        return texts.HISTORY_DOWN


def bolt_app(
    client: AsyncWebClient,
    me: Identity,
    friend: Friend,
    *,
    signing_secret: str | None,
    wake_on_open: bool,
    proxies: Collection[str] = (),
) -> AsyncApp:
    """The Bolt app.

    Args:
        signing_secret: for signed HTTP; None in Socket Mode, whose socket is proof enough.
        wake_on_open: whether opening friend's messages lets the model wake.
        proxies: ids of apps that speak for people.
    """

    async def authorize() -> AuthorizeResult:
        return AuthorizeResult(
            enterprise_id=None,
            team_id=me.team_id,
            bot_user_id=me.user_id,
            bot_id=me.bot_id,
            bot_token=client.token,
        )

    logger = logging.getLogger("slack_bolt.friend")
    logger.setLevel(logging.ERROR)  # Bolt warns of tokens it finds in the environment itself
    app = AsyncApp(
        logger=logger,
        client=AsyncWebClient(base_url=client.base_url),
        authorize=authorize,
        signing_secret=signing_secret,
        request_verification_enabled=signing_secret is not None,
        ignoring_self_events_enabled=False,
        process_before_response=True,
    )
    listeners = _Listeners(friend, Hearing(friend, client, me, proxies), me)
    app.event("message")(listeners.on_event)
    app.event("app_mention")(listeners.on_event)
    if wake_on_open:
        app.event("app_home_opened")(listeners.on_open)
    app.event(re.compile(".*"))(listeners.on_other_event)
    app.command(RESET_COMMAND)(listeners.on_reset)
    app.command(FORGET_COMMAND)(listeners.on_forget)
    app.shortcut(RESET_SHORTCUT)(listeners.on_shortcut)
    return app
