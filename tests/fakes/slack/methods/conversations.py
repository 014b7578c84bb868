"""conversations.history, replies, info, open, members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fakes.slack.methods.registry import JSON, SlackError, method
from tests.fakes.slack.payloads import message_json

if TYPE_CHECKING:
    from tests.fakes.slack.server import FakeSlack
    from tests.fakes.slack.workspace import Channel, Message

READ_SCOPES = {
    "channel": "channels:history",
    "group": "groups:history",
    "im": "im:history",
    "mpim": "mpim:history",
}


def _readable(fake: FakeSlack, channel_id: Any) -> Channel:
    channel = fake.workspace.channels.get(str(channel_id))
    if channel is None:
        raise SlackError("channel_not_found")
    fake.need_scope(READ_SCOPES[channel.type])
    if fake.bot.id not in channel.members:
        raise SlackError("not_in_channel")
    return channel


def _page(fake: FakeSlack, messages: list[Message], arguments: JSON) -> JSON:
    """The part between `oldest` and `latest`; metadata only when asked for."""
    oldest = float(arguments.get("oldest") or 0)
    latest = float(arguments.get("latest") or "inf")
    inclusive = _truth(arguments.get("inclusive"))
    limit = min(int(arguments.get("limit") or 100), fake.page_limit)

    def inside(ts: float) -> bool:
        return oldest <= ts <= latest if inclusive else oldest < ts < latest

    found = [m for m in messages if inside(float(m.ts))]
    listed = [message_json(message) for message in found[:limit]]
    if not _truth(arguments.get("include_all_metadata")):
        for body in listed:
            body.pop("metadata", None)
    return {"messages": listed, "has_more": len(found) > limit}


def _truth(value: Any) -> bool:
    return str(value).lower() in {"1", "true"}


@method("conversations.history", required=("channel",))
def history(fake: FakeSlack, arguments: JSON) -> JSON:
    channel = _readable(fake, arguments["channel"])
    return _page(fake, fake.workspace.history(channel), arguments)


@method("conversations.replies", required=("channel", "ts"))
def replies(fake: FakeSlack, arguments: JSON) -> JSON:
    channel = _readable(fake, arguments["channel"])
    root = fake.workspace.find(channel, str(arguments["ts"]))
    if root is None:
        raise SlackError("thread_not_found")
    thread = fake.workspace.thread(channel, root.root_ts)
    page = _page(fake, thread, arguments)
    if root.ts not in {body["ts"] for body in page["messages"]}:
        page["messages"].insert(0, message_json(root))
    return page


@method("conversations.info", scopes=("channels:read", "groups:read", "im:read", "mpim:read"))
def info(fake: FakeSlack, arguments: JSON) -> JSON:
    channel = fake.workspace.channels.get(str(arguments.get("channel")))
    if channel is None:
        raise SlackError("channel_not_found")
    return {
        "channel": {
            "id": channel.id,
            "name": channel.name,
            "is_channel": channel.type == "channel",
            "is_group": channel.type == "group",
            "is_im": channel.type == "im",
            "is_mpim": channel.type == "mpim",
            "is_member": fake.bot.id in channel.members,
        }
    }


@method("conversations.open", scopes=("im:write",), required=("users",))
def open_dm(fake: FakeSlack, arguments: JSON) -> JSON:
    user = fake.workspace.users.get(str(arguments["users"]))
    if user is None:
        raise SlackError("user_not_found")
    return {"channel": {"id": fake.dm(user).id}}
