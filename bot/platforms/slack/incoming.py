"""Slack's message events, read into what the core understands.

Each thread is a conversation of its own, and a top-level message is the root of its thread: that
is where friend answers it, and where Slack shows its status and streams its words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bot.core.conversation import ConversationKey, IncomingMessage, Person
from bot.platforms.slack.address import Address
from bot.platforms.slack.markup import mentioned, readable
from bot.platforms.slack.signin import Identity

PLATFORM = "slack"

Event = Mapping[str, Any]

_SPOKEN = frozenset({None, "file_share", "me_message", "thread_broadcast", "bot_message"})
"""Subtypes of a message that somebody said; the others tell of joins, topics, pins."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A message has new words; `text` is raw."""

    channel: str
    ts: str
    text: str


@dataclass(frozen=True, slots=True)
class Deletion:
    """A message is gone."""

    channel: str
    ts: str


def is_own(event: Event, me: Identity) -> bool:
    """Whether friend itself said it; Slack sends an app its own posts."""
    return event.get("user") == me.user_id or (bool(me.bot_id) and event.get("bot_id") == me.bot_id)


def is_spoken(event: Event) -> bool:
    """Whether the event is a new message that somebody said."""
    return event.get("subtype") in _SPOKEN and "ts" in event and "channel" in event


def read_change(event: Event, me: Identity) -> Edit | Deletion | None:
    """The edit or deletion that an event tells of, or None.

    Slack sends message_changed also when it adds a preview, and deletes the root of a thread that
    goes on by leaving a tombstone in its place.
    """
    channel = str(event.get("channel", ""))
    if event.get("subtype") == "message_deleted":
        return Deletion(channel, str(event.get("deleted_ts", "")))
    if event.get("subtype") != "message_changed":
        return None
    message = event.get("message") or {}
    if message.get("subtype") == "tombstone":
        return Deletion(channel, str(message.get("ts", "")))
    before = (event.get("previous_message") or {}).get("text")
    if is_own(message, me) or message.get("text") == before:
        return None
    return Edit(channel, str(message.get("ts", "")), str(message.get("text") or ""))


def people_in(event: Event) -> frozenset[str]:
    """Ids of everybody whose name is needed to read the message."""
    author = event.get("user")
    return mentioned(str(event.get("text") or "")) | ({str(author)} if author else frozenset())


def thread_of(event: Event) -> str:
    """The ts of the thread the message belongs to: its own, if it stands alone."""
    return str(event.get("thread_ts") or event["ts"])


def key_of(event: Event, team_id: str) -> ConversationKey:
    """The conversation of a message."""
    return ConversationKey(PLATFORM, team_id, str(event["channel"]), thread_of(event))


def read_message(
    event: Event,
    *,
    team_id: str,
    me: Identity,
    names: Mapping[str, str],
    in_friend_thread: bool,
) -> IncomingMessage:
    """A new message in plain words.

    A mention in a channel arrives as `message` and as `app_mention`, with the same channel and
    ts: these two make the event id, so that either of them is a duplicate of the other.

    Args:
        team_id: the workspace friend is installed in.
        names: display names by user id.
        in_friend_thread: whether friend has spoken in the thread.
    """
    text = str(event.get("text") or "")
    channel, ts = str(event["channel"]), str(event["ts"])
    is_bot = bool(event.get("bot_id")) or event.get("subtype") == "bot_message"
    author_id = str(event.get("user") or event.get("bot_id") or "unknown")
    address = Address(
        channel=channel,
        thread_ts=thread_of(event),
        ts=ts,
        user=author_id,
        team=str(event.get("user_team") or event.get("team") or team_id),
    )
    return IncomingMessage(
        event_id=f"{channel}:{ts}",
        conversation=key_of(event, team_id),
        message_id=ts,
        author=Person(author_id, names.get(author_id, author_id)),
        text=readable(text, names=names, own_id=me.user_id),
        sent_at=datetime.fromtimestamp(float(ts), UTC),
        address=address.stored(),
        is_direct=event.get("channel_type") == "im" or channel.startswith("D"),
        mentions_friend=me.user_id in mentioned(text),
        replies_to_friend=event.get("parent_user_id") == me.user_id,
        in_friend_thread=in_friend_thread,
        from_bot=is_bot,
        has_attachments=bool(event.get("files")),
    )
