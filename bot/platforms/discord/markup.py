"""Discord's message markup made readable for a model that has never seen an id.

Format: https://discord.com/developers/docs/reference#message-formatting
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.core.code import without_ticked
from bot.core.mentions import is_addressed, take_out
from bot.core.wording import A_CHANNEL, A_GROUP, SOMEONE, Moment, moment, place

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN = re.compile(
    r"<(?:"
    r"@!?(?P<user>\d{15,21})"
    r"|@&(?P<role>\d{15,21})"
    r"|#(?P<channel>\d{15,21})"
    r"|a?:(?P<emoji>\w{1,40}):\d{15,21}"
    r"|/(?P<command>[-_'\w ]{1,100}):\d{15,21}"
    r"|id:(?P<page>[-\w]{1,40})(?::\d{1,21})?"
    r"|t:(?P<time>-?\d{1,13})(?::(?P<style>[A-Za-z]))?"
    r")>"
    r"|<?https?://(?:\w+\.)?discord(?:app)?\.com/channels/(?:\d{15,21}|@me)/(?P<link>\d{15,21})"
    r"(?P<message>/\d{15,21})?>?"
)
_PAGES = {
    "customize": "Channels & Roles",
    "browse": "Browse Channels",
    "guide": "Server Guide",
    "linked-roles": "Linked Roles",
}
_STYLES: dict[str, Moment] = {"t": "time", "T": "time", "d": "date", "D": "date"}


@dataclass(frozen=True, slots=True)
class Names:
    """What ids stand for, as far as a message's own payload and the cache know."""

    users: Mapping[int, str] = field(default_factory=dict)
    roles: Mapping[int, str] = field(default_factory=dict)
    channels: Mapping[int, str] = field(default_factory=dict)


def mentioned_ids(content: str) -> set[int]:
    """Ids of the users and roles that `content` mentions; a reply's ping is not among them.

    What stands in back-ticks is shown, and mentions nobody.
    """
    tokens = _TOKEN.finditer(without_ticked(content))
    found = (match["user"] or match["role"] for match in tokens)
    return {int(value) for value in found if value}


def channel_ids(content: str) -> set[int]:
    """Ids of the channels that `content` names or links to."""
    found = (match["channel"] or match["link"] for match in _TOKEN.finditer(content))
    return {int(value) for value in found if value}


def readable(content: str, names: Names, *, me: int, my_name: str, my_role: int = 0) -> str:
    """Replace ids by names and take out friend's own mention where it only says who is meant.

    Args:
        me: friend's user id.
        my_name: what the others call friend.
        my_role: id of the role that Discord made for the bot, 0 if there is none.
    """
    content = take_out(content, _own(me, my_role), my_name)
    return _TOKEN.sub(lambda match: _name(match, names), content)


def is_to_others(content: str, *, me: int, my_role: int = 0) -> bool:
    """Whether the words are spoken to somebody who is mentioned, and not to friend."""
    others = rf"(?!{_own(me, my_role)})<@[!&]?\d{{15,21}}>"
    return is_addressed(without_ticked(content), others)


def _own(me: int, my_role: int) -> str:
    return rf"(?:<@!?{me}>" + (rf"|<@&{my_role}>" if my_role else "") + ")"


def _name(match: re.Match[str], names: Names) -> str:
    if match["link"]:
        channel = names.channels.get(int(match["link"]))
        return place(channel or A_CHANNEL, is_message=bool(match["message"]))
    if match["time"]:
        return moment(int(match["time"]), _STYLES.get(match["style"] or "", "both"))
    kind = match.lastgroup
    value = match[kind] if kind else ""
    match kind:
        case "user":
            return "@" + names.users.get(int(value), SOMEONE)
        case "role":
            return "@" + names.roles.get(int(value), A_GROUP)
        case "channel":
            return "#" + names.channels.get(int(value), A_CHANNEL)
        case "emoji":
            return f":{value}:"
        case "command":
            return f"/{value}"
        case "page":
            return _PAGES.get(value, "a page of this server")
    return match[0]
