"""Discord's message markup made readable for a model that has never seen an id.

Format: https://discord.com/developers/docs/reference#message-formatting
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN = re.compile(
    r"<(?:"
    r"@!?(?P<user>\d{15,21})"
    r"|@&(?P<role>\d{15,21})"
    r"|#(?P<channel>\d{15,21})"
    r"|a?:(?P<emoji>\w{1,40}):\d{15,21}"
    r"|/(?P<command>[-_'\w ]{1,100}):\d{15,21}"
    r"|t:(?P<time>-?\d{1,13})(?::[tTdDfFR])?"
    r")>"
)


@dataclass(frozen=True, slots=True)
class Names:
    """What ids stand for, as far as a message's own payload and the cache know."""

    users: Mapping[int, str] = field(default_factory=dict)
    roles: Mapping[int, str] = field(default_factory=dict)
    channels: Mapping[int, str] = field(default_factory=dict)


def mentioned_ids(content: str) -> set[int]:
    """Ids of the users and roles written out in `content`; a reply's ping is not among them."""
    found = (match["user"] or match["role"] for match in _TOKEN.finditer(content))
    return {int(value) for value in found if value}


def readable(content: str, names: Names, *, me: int, my_name: str, my_role: int = 0) -> str:
    """Replace ids by names and take out friend's own mention.

    At either end of the text the mention only says who is meant, and goes; within a sentence it is
    a word of it, and becomes friend's name.

    Args:
        me: friend's user id.
        my_name: what the others call friend.
        my_role: id of the role that Discord made for the bot, 0 if there is none.
    """
    own = rf"(?:<@!?{me}>" + (rf"|<@&{my_role}>" if my_role else "") + ")"
    content = re.sub(rf"^(?:\s*{own}[\s,:;]*)+", "", content)
    content = re.sub(rf"(?:[\s,]*{own}\s*)+([.!?…]*\s*)$", r"\1", content)
    content = re.sub(own, my_name.replace("\\", r"\\"), content)
    return _TOKEN.sub(lambda match: _name(match, names), content)


def _name(match: re.Match[str], names: Names) -> str:
    kind = match.lastgroup
    value = match[kind] if kind else ""
    match kind:
        case "user":
            return "@" + names.users.get(int(value), "someone")
        case "role":
            return "@" + names.roles.get(int(value), "a role")
        case "channel":
            return "#" + names.channels.get(int(value), "a channel")
        case "emoji":
            return f":{value}:"
        case "command":
            return f"/{value}"
        case "time":
            return _time(int(value))
    return match[0]


def _time(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, OSError, ValueError):
        return "some time"
