"""Do the platforms know friend's tokens?"""

from __future__ import annotations

import re

import aiohttp
import discord
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from bot.doctor.findings import Finding, Status
from bot.settings import Settings

_DISCORD_TOKEN = re.compile(r"[\w-]{20,}\.[\w-]{5,}\.[\w-]{20,}")
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
    if not _DISCORD_TOKEN.fullmatch(token):
        problem = "DISCORD_TOKEN is not a bot token: it should be three parts joined by dots."
        return Finding("Discord", Status.BROKEN, problem, _DISCORD_HELP)
    client = discord.Client(intents=discord.Intents.none())
    try:
        await client.login(token)
        about = await client.application_info()
    except discord.LoginFailure:
        problem = "Discord does not know DISCORD_TOKEN."
        return Finding("Discord", Status.BROKEN, problem, _DISCORD_HELP)
    except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
        problem = f"Discord cannot be reached ({error}); the token was not checked."
        return Finding("Discord", Status.BROKEN, problem, "Check the network, then try again.")
    finally:
        await client.close()
    flags = about.flags
    may_read = flags.gateway_message_content or flags.gateway_message_content_limited
    if settings.discord.message_content and not may_read:
        problem = "DISCORD_MESSAGE_CONTENT is on, but the intent is not enabled for this bot."
        remedy = "Enable it in the developer portal (Bot, Message Content Intent), or turn it off."
        return Finding("Discord", Status.BROKEN, problem, remedy)
    return Finding("Discord", Status.OK, f"logged in as {about.name}")


async def check_slack(settings: Settings) -> Finding:
    """Ask Slack who the bot token belongs to, and whether the app token opens a socket."""
    slack = settings.slack
    bot_token = slack.bot_token.get_secret_value()
    app_token = slack.app_token.get_secret_value()
    secret = slack.signing_secret.get_secret_value()
    if not (bot_token or app_token or secret):
        return Finding("Slack", Status.ABSENT, "not set up", _SLACK_HELP)
    if not bot_token.startswith("xoxb-"):
        problem = (
            "SLACK_BOT_TOKEN is missing."
            if not bot_token
            else ("SLACK_BOT_TOKEN is not a bot token: it should start with xoxb-.")
        )
        return Finding("Slack", Status.BROKEN, problem, _SLACK_HELP)
    if app_token and not app_token.startswith("xapp-"):
        problem = "SLACK_APP_TOKEN is not an app-level token: it should start with xapp-."
        return Finding("Slack", Status.BROKEN, problem, _SLACK_HELP)
    if not (app_token or secret):
        problem = "SLACK_APP_TOKEN (Socket Mode) or SLACK_SIGNING_SECRET (HTTP) is missing."
        return Finding("Slack", Status.BROKEN, problem, _SLACK_HELP)
    client = AsyncWebClient(token=bot_token)
    try:
        who = await client.auth_test()
        if app_token:
            await client.apps_connections_open(app_token=app_token)
    except SlackApiError as error:
        problem = f"Slack refused the tokens: {error.response['error']}."
        return Finding("Slack", Status.BROKEN, problem, _SLACK_HELP)
    except (SlackClientError, aiohttp.ClientError, OSError, TimeoutError) as error:
        problem = f"Slack cannot be reached ({error}); the tokens were not checked."
        return Finding("Slack", Status.BROKEN, problem, "Check the network, then try again.")
    return Finding("Slack", Status.OK, f"logged in as {who['user']} in {who['team']}")
