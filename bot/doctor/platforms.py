"""Do the platforms know friend's tokens?"""

from __future__ import annotations

import asyncio

import aiohttp
import discord

from bot.doctor.findings import Finding, Status
from bot.errors import SettingsInvalid
from bot.platforms.discord.courier import LOGIN_REFUSED
from bot.platforms.discord.invite import application_id
from bot.platforms.discord.platform import MISSING_INTENT
from bot.platforms.slack import check_tokens
from bot.settings import Settings

_PATIENCE_SECONDS = 15.0
_DISCORD_HELP = (
    "Make a bot at https://discord.com/developers/applications (Bot, Reset Token), put the token "
    "into DISCORD_TOKEN, and invite it by the link of `friend manifest discord`."
)
_SLACK_HELP = (
    "Make an app at https://api.slack.com/apps from the manifest of `friend manifest slack`, then "
    "set SLACK_BOT_TOKEN (xoxb-) and, for Socket Mode, SLACK_APP_TOKEN (xapp-)."
)


async def check_discord(settings: Settings) -> Finding:
    """Log in to Discord, without connecting to the gateway."""
    token = settings.discord.token.get_secret_value()
    if not token:
        return Finding("Discord", Status.ABSENT, "not set up", _DISCORD_HELP)
    client = discord.Client(intents=discord.Intents.none())
    try:
        application_id(token)
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await client.login(token)
    except SettingsInvalid as error:
        return Finding("Discord", Status.BROKEN, str(error), _DISCORD_HELP)
    except discord.LoginFailure:
        return Finding("Discord", Status.BROKEN, LOGIN_REFUSED, _DISCORD_HELP)
    except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
        problem = f"Discord cannot be reached ({type(error).__name__}); the token was not checked."
        return Finding("Discord", Status.BROKEN, problem, "Check the connection, then try again.")
    finally:
        await client.close()
    flags = client.application_flags
    may_read = flags.gateway_message_content or flags.gateway_message_content_limited
    if settings.discord.message_content and not may_read:
        return Finding("Discord", Status.BROKEN, MISSING_INTENT)
    return Finding("Discord", Status.OK, f"logged in as {client.user}")


async def check_slack(settings: Settings) -> Finding:
    """Ask Slack who the bot token belongs to, and whether the app token opens a socket."""
    slack = settings.slack
    tokens = (slack.bot_token, slack.app_token, slack.signing_secret)
    given = [bool(token.get_secret_value()) for token in tokens]
    if not any(given):
        return Finding("Slack", Status.ABSENT, "not set up", _SLACK_HELP)
    if not given[0] or not any(given[1:]):
        problem = "SLACK_BOT_TOKEN, and SLACK_APP_TOKEN or SLACK_SIGNING_SECRET, belong together."
        return Finding("Slack", Status.BROKEN, problem, _SLACK_HELP)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            me = await check_tokens(slack)
    except TimeoutError:
        problem = "Slack does not answer; the tokens were not checked."
        return Finding("Slack", Status.BROKEN, problem, "Check the connection, then try again.")
    return Finding("Slack", Status.OK, f"logged in to {me.team}")
