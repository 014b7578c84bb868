"""chat.startStream, appendStream, stopStream: a message that grows, as a state machine.

open --append--> open --stop--> completed. Anything after that, or after the stream's
lifetime, is `message_not_in_streaming_state`; after the reader pressed Stop it is
`stopped_by_user`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.fakes.slack.methods.chat import MARKDOWN_LIMIT, own_message, writable
from tests.fakes.slack.methods.registry import JSON, SlackError, method
from tests.fakes.slack.payloads import message_json
from tests.fakes.slack.workspace import TEAM_ID, Message

if TYPE_CHECKING:
    from tests.fakes.slack.server import FakeSlack

LIFETIME_SECONDS = 300.0


@dataclass
class Stream:
    """One streamed message and the pieces it was made of."""

    message: Message
    started: float
    recipient: str | None
    pieces: list[str] = field(default_factory=list)
    stopped_by_user: bool = False


class Streams:
    """Every stream ever started, by message ts."""

    def __init__(self) -> None:
        self.by_ts: dict[str, Stream] = {}
        self.refused = False
        """Set it to make Slack refuse to start streams (the app falls back to posts)."""

    @property
    def all(self) -> list[Stream]:
        return list(self.by_ts.values())

    @property
    def open(self) -> list[Stream]:
        return [stream for stream in self.all if stream.message.stream == "open"]

    def stop_by_user(self, message: Message) -> None:
        """The reader presses Slack's stop button."""
        stream = self.by_ts[message.ts]
        stream.stopped_by_user = True
        stream.message.stream = "completed"


def _piece(arguments: JSON) -> str:
    """The Markdown in a call; other chunk kinds (tasks, plans) carry no message text."""
    pieces = [arguments.get("markdown_text") or ""]
    for chunk in arguments.get("chunks") or []:
        if not isinstance(chunk, dict) or "type" not in chunk:
            raise SlackError("invalid_chunks")
        if chunk["type"] == "markdown_text":
            pieces.append(chunk["text"])
    if any(len(piece) > MARKDOWN_LIMIT for piece in pieces):
        raise SlackError("msg_too_long")
    return "".join(pieces)


@method("chat.startStream", scopes=("chat:write",), required=("channel", "thread_ts"))
def start(fake: FakeSlack, arguments: JSON) -> JSON:
    channel = writable(fake, arguments["channel"])
    if fake.streams.refused:
        raise SlackError("channel_type_not_supported")
    if channel.type != "im":
        if not arguments.get("recipient_team_id"):
            raise SlackError("missing_recipient_team_id")
        if not arguments.get("recipient_user_id"):
            raise SlackError("missing_recipient_user_id")
        if arguments["recipient_team_id"] != TEAM_ID:
            raise SlackError("team_not_found")
        if arguments["recipient_user_id"] not in fake.workspace.users:
            raise SlackError("user_not_found")
    if fake.workspace.find(channel, arguments["thread_ts"]) is None:
        raise SlackError("thread_not_found")
    text = _piece(arguments)
    message = fake.workspace.post(
        channel, fake.bot, text, thread_ts=arguments["thread_ts"], markdown=True, stream="open"
    )
    fake.streams.by_ts[message.ts] = Stream(
        message, fake.clock.now(), arguments.get("recipient_user_id"), [text] if text else []
    )
    fake.bot_posted(message)
    return {"channel": channel.id, "ts": message.ts}


def _running(fake: FakeSlack, arguments: JSON) -> Stream:
    channel = writable(fake, arguments["channel"])
    message = own_message(fake, channel, arguments["ts"])
    if message.user is not fake.bot:
        raise SlackError("message_not_owned_by_app")
    stream = fake.streams.by_ts.get(message.ts)
    if stream is not None and stream.stopped_by_user:
        raise SlackError("stopped_by_user")
    if stream is None or message.stream != "open":
        raise SlackError("message_not_in_streaming_state")
    if fake.clock.now() - stream.started > LIFETIME_SECONDS:
        message.stream = "completed"
        raise SlackError("message_not_in_streaming_state")
    return stream


@method("chat.appendStream", scopes=("chat:write",), required=("channel", "ts"))
def append(fake: FakeSlack, arguments: JSON) -> JSON:
    stream = _running(fake, arguments)
    text = _piece(arguments)
    if not text and not arguments.get("chunks"):
        raise SlackError("no_text")
    stream.pieces.append(text)
    stream.message.text += text
    return {"channel": stream.message.channel.id, "ts": stream.message.ts}


@method("chat.stopStream", scopes=("chat:write",), required=("channel", "ts"))
def stop(fake: FakeSlack, arguments: JSON) -> JSON:
    stream = _running(fake, arguments)
    text = _piece(arguments)
    if text:
        stream.pieces.append(text)
    if not stream.message.text + text:
        raise SlackError("no_text")
    message = stream.message
    message.stream = "completed"
    message.blocks = arguments.get("blocks") or message.blocks
    fake.change(message, message.text + text, metadata=arguments.get("metadata"), edited=False)
    return {"channel": message.channel.id, "ts": message.ts, "message": message_json(message)}
