"""The JSON that Slack sends: events, slash commands, shortcuts, button clicks.

Shapes follow https://docs.slack.dev/reference/events and
https://docs.slack.dev/interactivity; absent fields are left out, never null.
"""

from __future__ import annotations

import html
import re
import secrets
from typing import Any

from tests.fakes.slack.workspace import APP_ID, TEAM_ID, Channel, Message, User

JSON = dict[str, Any]

_MENTION = re.compile(r"(<@[UW]\w+>)")

STREAMING_STATES = {"open": "in_progress", "completed": "completed"}


def message_json(message: Message) -> JSON:
    """A message as it stands in events, in conversations.history and in API answers."""
    optional = {
        "subtype": message.subtype,
        "client_msg_id": message.client_msg_id,
        "bot_id": message.user.bot_id,
        "app_id": message.user.app_id,
        "thread_ts": message.thread_ts,
        "edited": message.edited_ts and {"user": message.user.id, "ts": message.edited_ts},
        "blocks": message.blocks,
        "files": message.files,
        "attachments": message.attachments,
        "username": message.username,
        "metadata": message.metadata,
        "streaming_state": message.stream and STREAMING_STATES[message.stream],
        "reactions": [
            {"name": name, "users": sorted(users), "count": len(users)}
            for name, users in message.reactions.items()
        ],
    }
    team = message.user.team
    if team != TEAM_ID:
        optional.update(user_team=team, source_team=team)
    body: JSON = {
        "type": "message",
        "user": message.user.id,
        "ts": message.ts,
        "text": message.text,
        "team": team,
        **{key: value for key, value in optional.items() if value},
    }
    if message.username:
        body["subtype"] = "bot_message"
        del body["user"]
    return body


def shared(message: Message) -> JSON:
    """A message that another one shares, as an attachment of that.

    The shape is that of Slack's own clients; the reference does not describe it.
    """
    blocks = message.blocks or [
        {
            "type": "rich_text",
            "block_id": "b1",
            "elements": [
                {
                    "type": "rich_text_section",
                    "elements": [_element(part) for part in _MENTION.split(message.text) if part],
                }
            ],
        }
    ]
    place = {"team": message.user.team, "channel": message.channel.id, "ts": message.ts}
    url = f"https://fake.slack.com/archives/{message.channel.id}/p{message.ts.replace('.', '')}"
    name = message.user.display_name
    body: JSON = {
        "id": 1,
        "ts": message.ts,
        "color": "D0D0D0",
        "author_id": message.user.id,
        "author_name": name,
        "author_subname": name,
        "channel_id": message.channel.id,
        "channel_team": message.user.team,
        "is_msg_unfurl": True,
        "is_share": True,
        "message_blocks": [{**place, "message": {"blocks": blocks}}],
        "fallback": f"[January 1st, 2026 9:00 AM] {message.user.name}: {message.text}",
        "from_url": url,
        "footer": "Slack Conversation",
        "mrkdwn_in": ["text"],
        "text": message.text,
    }
    if message.files:
        body["files"] = message.files
    return body


def _element(part: str) -> JSON:
    if _MENTION.fullmatch(part):
        return {"type": "user", "user_id": part[2:-1]}
    return {"type": "text", "text": html.unescape(part)}


def posted(message: Message) -> JSON:
    """The `message` event of a new message."""
    event = message_json(message)
    event.pop("metadata", None)
    event.update(_place(message.channel), event_ts=message.ts)
    return event


def mentioned(message: Message) -> JSON:
    """The `app_mention` twin of a message that names the app; it has no channel_type."""
    event = message_json(message)
    event.update(type="app_mention", channel=message.channel.id, event_ts=message.ts)
    return event


def changed(message: Message, previous: JSON, event_ts: str) -> JSON:
    return {
        "type": "message",
        "subtype": "message_changed",
        "hidden": True,
        "message": message_json(message),
        "previous_message": previous,
        "ts": event_ts,
        "event_ts": event_ts,
        **_place(message.channel),
    }


def deleted(message: Message, event_ts: str) -> JSON:
    return {
        "type": "message",
        "subtype": "message_deleted",
        "hidden": True,
        "deleted_ts": message.ts,
        "previous_message": message_json(message),
        "ts": event_ts,
        "event_ts": event_ts,
        **_place(message.channel),
    }


def event_callback(event: JSON, bot: User, now: float) -> JSON:
    """The outer body around an event: what arrives over HTTP, or in an envelope's payload.

    In a channel shared between workspaces `team_id` may be the speaker's; the authorization is
    always the installation's. https://docs.slack.dev/apis/slack-connect
    """
    team = (event.get("message") or event).get("team", TEAM_ID)
    return {
        "token": "legacy-verification-token",
        "team_id": team,
        "context_team_id": TEAM_ID,
        "api_app_id": APP_ID,
        "type": "event_callback",
        "event": event,
        "event_id": f"Ev{secrets.token_hex(5).upper()}",
        "event_time": int(now),
        "event_context": f"4-{secrets.token_hex(8)}",
        "is_ext_shared_channel": team != TEAM_ID,
        "authorizations": [
            {
                "enterprise_id": None,
                "team_id": TEAM_ID,
                "user_id": bot.id,
                "is_bot": True,
                "is_enterprise_install": False,
            }
        ],
    }


def command(
    channel: Channel, user: User, name: str, text: str, response_url: str
) -> dict[str, str]:
    return {
        "token": "legacy-verification-token",
        "team_id": user.team,
        "team_domain": "fake",
        "channel_id": channel.id,
        "channel_name": channel.name,
        "user_id": user.id,
        "user_name": user.name,
        "command": name,
        "text": text,
        "api_app_id": APP_ID,
        "is_enterprise_install": "false",
        "response_url": response_url,
        "trigger_id": f"{secrets.randbelow(10**12)}.{secrets.token_hex(8)}",
    }


def _interaction(kind: str, message: Message, user: User, response_url: str) -> JSON:
    return {
        "type": kind,
        "token": "legacy-verification-token",
        "api_app_id": APP_ID,
        "team": {"id": user.team, "domain": "fake"},
        "user": {"id": user.id, "username": user.name, "name": user.name, "team_id": user.team},
        "channel": {"id": message.channel.id, "name": message.channel.name},
        "message": message_json(message),
        "response_url": response_url,
        "trigger_id": f"{secrets.randbelow(10**12)}.{secrets.token_hex(8)}",
        "is_enterprise_install": False,
        "enterprise": None,
    }


def message_shortcut(message: Message, user: User, callback_id: str, response_url: str) -> JSON:
    body = _interaction("message_action", message, user, response_url)
    body.update(callback_id=callback_id, message_ts=message.ts, action_ts=message.ts)
    return body


def button_click(message: Message, user: User, action: JSON, response_url: str) -> JSON:
    body = _interaction("block_actions", message, user, response_url)
    container: JSON = {
        "type": "message",
        "message_ts": message.ts,
        "channel_id": message.channel.id,
        "is_ephemeral": message.ephemeral_for is not None,
    }
    if message.thread_ts:
        container["thread_ts"] = message.thread_ts
    body.update(container=container, actions=[action])
    return body


def _place(channel: Channel) -> JSON:
    return {"channel": channel.id, "channel_type": channel.type}
