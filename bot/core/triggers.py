"""Whether a message asks for a reply, and why."""

from __future__ import annotations

import re
from enum import StrEnum

from bot.core.conversation import IncomingMessage
from bot.settings import TriggerSettings


class Reason(StrEnum):
    """Why friend answers."""

    MENTION = "mention"
    DIRECT = "direct message"
    REPLY = "reply to friend"
    THREAD = "thread friend is in"
    NAME = "name in plain text"
    INTERJECTION = "interjection"

    @property
    def is_address(self) -> bool:
        """Whether the person surely spoke to friend, so that commands and notices are in place."""
        return self in {Reason.MENTION, Reason.DIRECT, Reason.REPLY}


def decide(message: IncomingMessage, settings: TriggerSettings, *, chance: float) -> Reason | None:
    """Decide whether to answer `message`.

    Args:
        chance: a uniform random number in [0, 1), drawn by the caller.
    """
    if message.from_bot:
        return None
    if message.mentions_friend:
        return Reason.MENTION
    if message.is_direct:
        return Reason.DIRECT if settings.direct_messages else None
    if message.replies_to_friend and settings.replies:
        return Reason.REPLY
    if message.in_friend_thread and settings.threads and not message.to_others:
        return Reason.THREAD
    if not message.heard.strip():
        return None
    if settings.name and _says(message.heard, settings.name):
        return Reason.NAME
    if chance < settings.interject_probability:
        return Reason.INTERJECTION
    return None


def _says(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None
