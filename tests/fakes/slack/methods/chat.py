"""chat.postMessage, postEphemeral, update, delete, and reactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fakes.slack.methods.registry import JSON, SlackError, method
from tests.fakes.slack.payloads import message_json

if TYPE_CHECKING:
    from tests.fakes.slack.server import FakeSlack
    from tests.fakes.slack.workspace import Channel, Message

MARKDOWN_LIMIT = 12_000
TEXT_LIMIT = 40_000


def writable(fake: FakeSlack, channel_id: Any) -> Channel:
    """The channel, if the bot may post in it."""
    channel = fake.workspace.channels.get(str(channel_id))
    if channel is None:
        raise SlackError("channel_not_found")
    if fake.bot.id not in channel.members:
        raise SlackError("not_in_channel")
    return channel


def own_message(fake: FakeSlack, channel: Channel, ts: Any) -> Message:
    message = fake.workspace.find(channel, str(ts))
    if message is None:
        raise SlackError("message_not_found")
    return message


def text_of(arguments: JSON) -> tuple[str, bool]:
    """(text, is it Markdown) of a post; Slack allows `text` or `markdown_text`, not both."""
    text, markdown = arguments.get("text"), arguments.get("markdown_text")
    if markdown is not None:
        if text is not None or arguments.get("blocks"):
            raise SlackError("markdown_text_conflict")
        if len(markdown) > MARKDOWN_LIMIT:
            raise SlackError("msg_too_long")
        if not markdown.strip():
            raise SlackError("no_text")
        return markdown, True
    if not (text and text.strip()) and not arguments.get("blocks"):
        raise SlackError("no_text")
    return (text or "")[:TEXT_LIMIT], False


@method("chat.postMessage", scopes=("chat:write",), required=("channel",))
def post_message(fake: FakeSlack, arguments: JSON) -> JSON:
    channel = writable(fake, arguments["channel"])
    text, markdown = text_of(arguments)
    thread_ts = arguments.get("thread_ts")
    if thread_ts is not None and fake.workspace.find(channel, thread_ts) is None:
        raise SlackError("thread_not_found")
    message = fake.workspace.post(
        channel,
        fake.bot,
        text,
        thread_ts=thread_ts,
        markdown=markdown,
        blocks=arguments.get("blocks"),
        metadata=arguments.get("metadata"),
    )
    fake.bot_posted(message)
    return {"channel": channel.id, "ts": message.ts, "message": message_json(message)}


@method("chat.postEphemeral", scopes=("chat:write",), required=("channel", "user"))
def post_ephemeral(fake: FakeSlack, arguments: JSON) -> JSON:
    channel = writable(fake, arguments["channel"])
    if arguments["user"] not in channel.members:
        raise SlackError("user_not_in_channel")
    text, markdown = text_of(arguments)
    message = fake.keep_ephemeral(
        channel,
        arguments["user"],
        text,
        thread_ts=arguments.get("thread_ts"),
        markdown=markdown,
        blocks=arguments.get("blocks"),
    )
    return {"message_ts": message.ts}


@method("chat.update", scopes=("chat:write",), required=("channel", "ts"))
def update(fake: FakeSlack, arguments: JSON) -> JSON:
    channel = writable(fake, arguments["channel"])
    message = own_message(fake, channel, arguments["ts"])
    if message.user is not fake.bot:
        raise SlackError("cant_update_message")
    if message.stream == "open":
        raise SlackError("streaming_state_conflict")
    text, markdown = text_of(arguments)
    fake.change(message, text, markdown=markdown, metadata=arguments.get("metadata"))
    return {
        "channel": channel.id,
        "ts": message.ts,
        "text": text,
        "message": message_json(message),
    }


@method("chat.delete", scopes=("chat:write",), required=("channel", "ts"))
def delete(fake: FakeSlack, arguments: JSON) -> JSON:
    channel = writable(fake, arguments["channel"])
    message = own_message(fake, channel, arguments["ts"])
    if message.user is not fake.bot:
        raise SlackError("cant_delete_message")
    fake.remove(message)
    return {"channel": channel.id, "ts": message.ts}


@method("reactions.add", scopes=("reactions:write",), required=("channel", "name", "timestamp"))
def add_reaction(fake: FakeSlack, arguments: JSON) -> JSON:
    channel = writable(fake, arguments["channel"])
    users = own_message(fake, channel, arguments["timestamp"]).reactions.setdefault(
        arguments["name"], set()
    )
    if fake.bot.id in users:
        raise SlackError("already_reacted")
    users.add(fake.bot.id)
    return {}


@method("reactions.remove", scopes=("reactions:write",), required=("name",))
def remove_reaction(fake: FakeSlack, arguments: JSON) -> JSON:
    channel = writable(fake, arguments.get("channel"))
    message = own_message(fake, channel, arguments.get("timestamp"))
    users = message.reactions.get(arguments["name"], set())
    if fake.bot.id not in users:
        raise SlackError("no_reaction")
    users.remove(fake.bot.id)
    return {}
