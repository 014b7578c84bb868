"""Slack's markup: read into plain words, and written so that nothing of it works.

Reference: https://docs.slack.dev/messaging/formatting-message-text. Control sequences stand in
angle brackets; a person's own `<`, `>` and `&` arrive as entities.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from bot.core.code import without_ticked
from bot.core.mentions import is_addressed, take_out
from bot.core.wording import A_CHANNEL, A_GROUP, SOMEONE, Moment, moment, place

_CONTROL = re.compile(r"<([^<>]*)>")
_PERSON = re.compile(r"<@([UW][A-Z0-9]+)(?:\|[^<>]*)?>")
_OTHERS = r"<(?:@(?!{own}\b)[A-Z0-9]+|!subteam\^\w+)(?:\|[^<>]*)?>"
_LINK = re.compile(r"https://[\w.-]+\.slack\.com/archives/(?P<channel>\w+)(?P<message>/p\d+)?\S*")
_READ_AS_ENTITY = re.compile(r"&(?=(?:amp|lt|gt);)")


def mentioned(text: str) -> frozenset[str]:
    """Ids of the people that a raw message text mentions; what stands in back-ticks does not."""
    return frozenset(_PERSON.findall(without_ticked(text)))


def people_named(text: str) -> frozenset[str]:
    """Ids of the people whose names are needed to read a raw message text."""
    return frozenset(_PERSON.findall(text))


def is_to_others(text: str, *, own_id: str) -> bool:
    """Whether the words are spoken to somebody who is mentioned, and not to friend."""
    return is_addressed(without_ticked(text), _OTHERS.format(own=re.escape(own_id)))


def readable(text: str, *, names: Mapping[str, str], own_id: str, own_name: str) -> str:
    """A raw message text in plain words, friend's mention out where it only says who is meant.

    Args:
        names: display names by user id; whoever is not among them is "someone".
        own_id: friend's user id.
        own_name: what the others call friend.
    """
    own = rf"<@{re.escape(own_id)}(?:\|[^<>]*)?>"
    text = take_out(text, own, own_name.replace("<", "").replace(">", "").replace("&", "&amp;"))
    parts: list[str] = []
    end = 0
    for match in _CONTROL.finditer(text):
        parts.append(_unescape(text[end : match.start()]))
        parts.append(_words_for(_unescape(match.group(1)), names))
        end = match.end()
    parts.append(_unescape(text[end:]))
    return "".join(parts).strip()


def escape(text: str) -> str:
    """A reply as Slack shows it literally: no mention, no link in disguise, no ping.

    Slack acts on its control sequences in Markdown too; with the brackets written as entities it
    does not, and shows them as they were. An ampersand is left alone unless it would be read as
    the start of an entity: Slack does not decode those inside of addresses.
    """
    text = _READ_AS_ENTITY.sub("&amp;", text)
    return text.replace("<", "&lt;").replace(">", "&gt;")


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _words_for(control: str, names: Mapping[str, str]) -> str:
    """What a control sequence says to a reader."""
    target, _, label = control.partition("|")
    if target.startswith("@"):
        return "@" + (names.get(target[1:]) or label or SOMEONE)
    if target.startswith("#"):
        return "#" + (label or A_CHANNEL)
    if target.startswith("!subteam^"):
        return "@" + (label.removeprefix("@") or A_GROUP)
    if target.startswith("!date^"):
        return label or _date(target)
    if target.startswith("!"):
        return "@" + target[1:]
    address = target.removeprefix("mailto:").removeprefix("tel:")
    if label and not (label == target or address.rstrip("/").endswith(label.rstrip("/"))):
        return label if _LINK.fullmatch(address) else f"{label} ({address})"
    link = _LINK.fullmatch(address)
    if link is not None:
        return place(A_CHANNEL, is_message=bool(link["message"]))
    return label or address


def _date(target: str) -> str:
    """`!date^seconds^format^link` without the fallback that it should have."""
    seconds, _, pattern = target.removeprefix("!date^").partition("^")
    has_date, has_time = "{date" in pattern, "{time" in pattern
    kind: Moment = "both" if has_date == has_time else "date" if has_date else "time"
    try:
        return moment(float(seconds), kind)
    except ValueError:
        return "some time"
