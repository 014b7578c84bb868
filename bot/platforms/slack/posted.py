"""Finding what was posted for a reply by an earlier try, or an earlier process.

Slack has no nonce for messages. Each finished part of a reply carries its key as message metadata
(https://docs.slack.dev/messaging/message-metadata); a message of friend's in the thread without
any is a draft that was never completed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from bot.platforms.slack.address import Address
from bot.platforms.slack.failures import CALL_ERRORS, delivery_failed

EVENT_TYPE = "friend_reply"
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Posted:
    """What stands in the thread.

    Attributes:
        parts: message ts by part number.
        drafts: message ts of unfinished drafts, the oldest first.
    """

    parts: dict[int, str] = field(default_factory=dict)
    drafts: tuple[str, ...] = ()


def label(reply_key: str, part: int) -> dict[str, Any]:
    """The metadata of one part."""
    return {"event_type": EVENT_TYPE, "event_payload": {"key": reply_key, "part": part}}


async def find_posted(
    client: AsyncWebClient, address: Address, reply_key: str, *, own_id: str
) -> Posted:
    """Look through the thread after the message that is answered.

    Raises:
        DeliveryFailed: Slack does not let friend look just now; posting blindly could double.
    """
    try:
        answer = await client.conversations_replies(
            channel=address.channel,
            ts=address.thread_ts,
            oldest=address.ts,
            inclusive=False,
            limit=_PAGE,
            include_all_metadata=True,
        )
    except CALL_ERRORS as error:
        raise delivery_failed(error) from error
    parts: dict[int, str] = {}
    drafts: list[str] = []
    for message in answer.get("messages") or []:
        if message.get("user") != own_id or float(message["ts"]) <= float(address.ts):
            continue
        metadata = message.get("metadata") or {}
        if metadata.get("event_type") != EVENT_TYPE:
            drafts.append(str(message["ts"]))
        elif metadata["event_payload"].get("key") == reply_key:
            parts[int(metadata["event_payload"]["part"])] = str(message["ts"])
    return Posted(parts, tuple(drafts))
