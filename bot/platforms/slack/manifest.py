"""The app manifest: what friend asks of a Slack workspace, and nothing more.

Reference: https://docs.slack.dev/reference/app-manifest. `agent_view` is Slack's messaging for
agents; new apps cannot have the older `assistant_view`.
"""

from __future__ import annotations

from typing import Any

from bot.platforms.slack import texts

RESET_COMMAND = "/friend-reset"
FORGET_COMMAND = "/friend-forget-me"
RESET_SHORTCUT = "friend_reset"
"""Callback id of the message shortcut; slash commands don't work in an agent's threads."""

BOT_SCOPES: dict[str, str] = {
    "app_mentions:read": "hear that somebody mentions friend",
    "assistant:write": "be found in Slack's agent view",
    "channels:history": "follow a thread in a public channel",
    "chat:write": "answer, and show that it is thinking",
    "commands": "offer /friend-reset, /friend-forget-me and the message shortcut",
    "groups:history": "follow a thread in a private channel",
    "im:history": "hear direct messages",
    "mpim:history": "follow a thread in a group message",
    "users:read": "know people's names",
}
"""Each scope, and what friend needs it for."""

BOT_EVENTS: tuple[str, ...] = (
    "app_home_opened",
    "app_mention",
    "message.channels",
    "message.groups",
    "message.im",
    "message.mpim",
)
"""What friend hears; `app_home_opened`, which needs no scope, is of use with SLACK_WAKE_ON_OPEN."""


def app_manifest(*, request_url: str = "") -> dict[str, Any]:
    """The manifest as Slack's "Create an app from a manifest" takes it.

    Args:
        request_url: public address of friend's signed HTTP endpoint; empty for Socket Mode.
    """
    url = {"url": request_url} if request_url else {}
    settings: dict[str, Any] = {
        "event_subscriptions": {"bot_events": list(BOT_EVENTS)},
        "interactivity": {"is_enabled": True},
        "org_deploy_enabled": False,
        "socket_mode_enabled": not request_url,
        "token_rotation_enabled": False,
    }
    if request_url:
        settings["event_subscriptions"]["request_url"] = request_url
        settings["interactivity"]["request_url"] = request_url
    return {
        "display_information": {
            "name": "friend",
            "description": texts.DESCRIPTION,
            "background_color": "#2f4858",
        },
        "features": {
            "app_home": {
                "home_tab_enabled": False,
                "messages_tab_enabled": True,
                "messages_tab_read_only_enabled": False,
            },
            "bot_user": {"display_name": "friend", "always_online": True},
            "agent_view": {
                "agent_description": texts.AGENT_DESCRIPTION,
                "suggested_prompts": [
                    {"title": title, "message": message} for title, message in texts.PROMPTS.items()
                ],
            },
            "slash_commands": [
                {
                    "command": RESET_COMMAND,
                    "description": texts.RESET_COMMAND,
                    "should_escape": False,
                    **url,
                },
                {
                    "command": FORGET_COMMAND,
                    "description": texts.FORGET_COMMAND,
                    "should_escape": False,
                    **url,
                },
            ],
            "shortcuts": [
                {
                    "name": texts.RESET_SHORTCUT_NAME,
                    "type": "message",
                    "callback_id": RESET_SHORTCUT,
                    "description": texts.RESET_SHORTCUT,
                }
            ],
        },
        "oauth_config": {"scopes": {"bot": list(BOT_SCOPES)}},
        "settings": settings,
    }
