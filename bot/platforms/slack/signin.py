"""Who friend is in the workspace, and whether its tokens are good."""

from __future__ import annotations

from dataclasses import dataclass

from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import BadToken, FriendError, MissingScope
from bot.platforms.slack.client import web_client
from bot.platforms.slack.failures import CALL_ERRORS, TRANSPORT_ERRORS, sign_in_failed
from bot.platforms.slack.manifest import BOT_SCOPES
from bot.settings import SlackSettings

_BOT_KIND = "Bot User OAuth Token (xoxb-) from your app's OAuth & Permissions page"
_APP_KIND = "app-level token (xapp-) with connections:write from your app's Basic Information page"


@dataclass(frozen=True, slots=True)
class Identity:
    """Friend in one workspace."""

    team_id: str
    team: str
    user_id: str
    bot_id: str
    name: str = "friend"


async def sign_in(client: AsyncWebClient) -> Identity:
    """Ask Slack who the bot token belongs to.

    Raises:
        BadToken: Slack does not know the token.
        MissingScope: the app was installed without something friend needs.
        FriendError: Slack cannot be reached.
    """
    _require_prefix(client.token or "", "xoxb-", "SLACK_BOT_TOKEN", _BOT_KIND)
    try:
        answer = await client.auth_test()
    except CALL_ERRORS as error:
        raise _explain(error, variable="SLACK_BOT_TOKEN", kind=_BOT_KIND) from error
    granted = {name.strip() for name in answer.headers.get("X-OAuth-Scopes", "").split(",")}
    missing = sorted(set(BOT_SCOPES) - granted)
    if granted - {""} and missing:
        needs = "; ".join(f"{scope} (to {BOT_SCOPES[scope]})" for scope in missing)
        raise MissingScope(
            f"The Slack app lacks {needs}. Put the app manifest (`friend manifest slack`) into "
            "your app's settings, then reinstall the app."
        )
    return Identity(
        team_id=str(answer["team_id"]),
        team=str(answer.get("team", "")),
        user_id=str(answer["user_id"]),
        bot_id=str(answer.get("bot_id", "")),
        name=str(answer.get("user") or "friend"),
    )


async def open_socket(client: AsyncWebClient, app_token: str) -> str:
    """An address for one Socket Mode connection; good for a few seconds, once.

    Raises: as `sign_in`.
    """
    _require_prefix(app_token, "xapp-", "SLACK_APP_TOKEN", _APP_KIND)
    try:
        answer = await client.apps_connections_open(app_token=app_token)
    except CALL_ERRORS as error:
        raise _explain(error, variable="SLACK_APP_TOKEN", kind=_APP_KIND) from error
    return str(answer["url"])


async def check_tokens(
    settings: SlackSettings, *, api_url: str = AsyncWebClient.BASE_URL
) -> Identity:
    """Try the tokens without going to work, for `friend doctor`.

    Raises: as `sign_in`.
    """
    client = web_client(settings.bot_token.get_secret_value(), api_url=api_url)
    identity = await sign_in(client)
    if app_token := settings.app_token.get_secret_value():
        await open_socket(client, app_token)
    return identity


def _require_prefix(token: str, prefix: str, variable: str, kind: str) -> None:
    if not token.startswith(prefix):
        raise BadToken(f"{variable} does not start with {prefix}: it must be the {kind}.")


def _explain(error: BaseException, *, variable: str, kind: str) -> FriendError:
    if isinstance(error, SlackApiError):
        about_token = sign_in_failed(error, variable=variable, kind=kind)
        if about_token is not None:
            return about_token
    if isinstance(error, TRANSPORT_ERRORS):
        return FriendError(
            f"Slack cannot be reached ({type(error).__name__}). Check the connection; friend "
            "tries again by itself."
        )
    return FriendError(f"Slack does not let friend in just now ({error}).")
