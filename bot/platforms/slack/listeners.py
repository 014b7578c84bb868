"""What friend registers with Bolt: events, the slash commands, the message shortcut.

Bolt runs a listener before it acknowledges (`process_before_response`): an event whose message
could not be stored is not acknowledged, and Slack sends it again.
"""

from __future__ import annotations

import logging
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


def bolt_app(
    client: AsyncWebClient, me: Identity, friend: Friend, *, signing_secret: str | None
) -> AsyncApp:
    """The Bolt app.

    Args:
        signing_secret: for signed HTTP; None in Socket Mode, whose socket is proof enough.
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
    hearing = Hearing(friend, client, me)

    async def on_event(event: dict[str, Any], body: dict[str, Any]) -> None:
        await hearing.on_event(event, str(body.get("team_id") or me.team_id))

    async def on_reset(ack: AsyncAck, command: dict[str, Any]) -> None:
        channel = ConversationKey(PLATFORM, str(command["team_id"]), str(command["channel_id"]))
        try:
            await ack(await friend.reset_channel(channel))
        except StoreFailed as error:
            _log.error("store.failed", error=str(error))
            await ack(texts.HISTORY_DOWN)

    async def on_forget(ack: AsyncAck, command: dict[str, Any]) -> None:
        try:
            await ack(await friend.forget(PLATFORM, str(command["user_id"])))
        except StoreFailed as error:
            _log.error("store.failed", error=str(error))
            await ack(texts.HISTORY_DOWN)

    async def on_shortcut(ack: AsyncAck, shortcut: dict[str, Any], respond: AsyncRespond) -> None:
        await ack()
        message = {**shortcut["message"], "channel": shortcut["channel"]["id"]}
        try:
            said = await friend.reset(key_of(message, str(shortcut["team"]["id"])))
        except StoreFailed as error:
            _log.error("store.failed", error=str(error))
            said = texts.HISTORY_DOWN
        try:
            await respond(said)
        except CALL_ERRORS as error:
            _log.warning("slack.not_responded", error=repr(error))

    app.event("message")(on_event)
    app.event("app_mention")(on_event)
    app.command(RESET_COMMAND)(on_reset)
    app.command(FORGET_COMMAND)(on_forget)
    app.shortcut(RESET_SHORTCUT)(on_shortcut)
    return app
