"""The link by which somebody adds friend to their server."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import discord

from bot.errors import SettingsInvalid

if TYPE_CHECKING:
    from bot.settings import DiscordSettings

PERMISSIONS = discord.Permissions(
    view_channel=True,
    send_messages=True,
    send_messages_in_threads=True,
    read_message_history=True,
)
"""What friend needs to answer; nothing that changes a server."""


def invite_link(settings: DiscordSettings) -> str:
    """The link for the bot of this token; made without asking Discord.

    Raises:
        SettingsInvalid: there is no token, or it is not one of Discord's.
    """
    return discord.utils.oauth_url(
        application_id(settings.token.get_secret_value()),
        permissions=PERMISSIONS,
        scopes=("bot", "applications.commands"),
    )


def application_id(token: str) -> int:
    """The bot's id, which is the first part of its token, in base64."""
    if not token:
        raise SettingsInvalid(
            "DISCORD_TOKEN is not set: make an application in Discord's developer portal "
            "(https://discord.com/developers/applications) and copy its bot token there."
        )
    first = token.partition(".")[0]
    try:
        return int(base64.b64decode(first + "=" * (-len(first) % 4), validate=True))
    except (binascii.Error, ValueError):
        raise SettingsInvalid(
            "DISCORD_TOKEN is not a bot token: those have three parts with dots between, and are "
            "found in the developer portal under Bot. A client secret or public key is not one."
        ) from None
