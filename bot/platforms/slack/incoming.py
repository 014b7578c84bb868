"""Slack's message events, read into what the core understands.

Each thread is a conversation of its own, and a top-level message is the root of its thread: that
is where friend answers it, and where Slack shows its status and streams its words.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from bot.core.conversation import ConversationKey, IncomingMessage, Person
from bot.core.wording import SOMEONE
from bot.platforms.slack.address import Address
from bot.platforms.slack.beside import Event, files_of, raw_beside, raw_text, words_beside
from bot.platforms.slack.markup import is_to_others, mentioned, people_named, readable
from bot.platforms.slack.signin import Identity

PLATFORM = "slack"

_SPOKEN = frozenset({None, "file_share", "me_message", "thread_broadcast", "bot_message"})
"""Subtypes of a message that somebody said; the others tell of joins, topics, pins."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A message has new words.

    Attributes:
        message: as an event of its own.
        adds_mention: of friend, which it had not.
    """

    message: Event
    adds_mention: bool


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

    Slack sends message_changed also when replies are counted or reactions come, and deletes the
    root of a thread that goes on by leaving a tombstone in its place.
    """
    channel = str(event.get("channel", ""))
    if event.get("subtype") == "message_deleted":
        return Deletion(channel, str(event.get("deleted_ts", "")))
    if event.get("subtype") != "message_changed":
        return None
    message = event.get("message") or {}
    if message.get("subtype") == "tombstone":
        return Deletion(channel, str(message.get("ts", "")))
    before = event.get("previous_message") or {}
    if is_own(message, me) or _said(message) == _said(before):
        return None
    called, calls = (me.user_id in mentioned(raw_text(one)) for one in (before, message))
    place = {key: event[key] for key in ("channel", "channel_type") if key in event}
    return Edit({**message, **place}, adds_mention=calls and not called)


def _said(message: Event) -> tuple[object, ...]:
    return raw_text(message), raw_beside(message), files_of(message)


def people_in(event: Event) -> frozenset[str]:
    """Ids of everybody whose name is needed to read the message."""
    named = frozenset().union(*map(people_named, (raw_text(event), *raw_beside(event))))
    author = event.get("user")
    return named | ({str(author)} if author else frozenset())


def thread_of(event: Event) -> str:
    """The ts of the thread the message belongs to: its own, if it stands alone."""
    return str(event.get("thread_ts") or event["ts"])


def key_of(event: Event, team_id: str) -> ConversationKey:
    """The conversation of a message.

    Args:
        team_id: the workspace friend is installed in. In a channel shared between workspaces the
            body around an event, and a command or shortcut, may name another.
    """
    return ConversationKey(PLATFORM, team_id, str(event["channel"]), thread_of(event))


def read_message(
    event: Event,
    *,
    me: Identity,
    names: Mapping[str, str],
    in_friend_thread: bool = False,
    proxies: Collection[str] = (),
) -> IncomingMessage:
    """A new message in plain words.

    A mention in a channel arrives as `message` and as `app_mention`, with the same channel and
    ts: these two make the event id, so that either of them is a duplicate of the other.

    Args:
        names: display names by user id.
        in_friend_thread: whether friend has spoken in the thread.
        proxies: ids of apps that speak for people.
    """
    text = raw_text(event)
    channel, ts = str(event["channel"]), str(event["ts"])
    is_bot = bool(event.get("bot_id")) or event.get("subtype") == "bot_message"
    is_proxied = is_bot and bool(event.get("app_id")) and event.get("app_id") in proxies
    author_id = str(event.get("user") or event.get("bot_id") or "unknown")
    author = Person(author_id, names.get(author_id) or _signed(event))
    if is_proxied:
        author = Person(f"{event.get('app_id')}:{_signed(event)}", _signed(event))
    address = Address(
        channel=channel,
        thread_ts=thread_of(event),
        ts=ts,
        user=author_id,
        team=str(event.get("user_team") or event.get("team") or me.team_id),
    )

    def read(raw: str) -> str:
        own_name = names.get(me.user_id) or me.name
        return readable(raw, names=names, own_id=me.user_id, own_name=own_name)

    return IncomingMessage(
        event_id=f"{channel}:{ts}",
        conversation=key_of(event, me.team_id),
        message_id=ts,
        author=author,
        text=read(text),
        sent_at=datetime.fromtimestamp(float(ts), UTC),
        address=address.stored(),
        is_direct=event.get("channel_type") == "im" or channel.startswith("D"),
        mentions_friend=me.user_id in mentioned(text),
        replies_to_friend=event.get("parent_user_id") == me.user_id,
        in_friend_thread=in_friend_thread,
        from_bot=is_bot and not is_proxied,
        beside=words_beside(event, read),
        files=files_of(event),
        to_others=is_to_others(text, own_id=me.user_id),
    )


def _signed(event: Event) -> str:
    """The name that an app gives itself, or whomever it speaks for."""
    profile = event.get("bot_profile") or {}
    return str(event.get("username") or profile.get("name") or SOMEONE)
