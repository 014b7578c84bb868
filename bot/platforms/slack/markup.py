"""Slack's markup: read into plain words, and written so that nothing of it works.

Reference: https://docs.slack.dev/messaging/formatting-message-text. Control sequences stand in
angle brackets; a person's own `<`, `>` and `&` arrive as entities.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_CONTROL = re.compile(r"<([^<>]*)>")
_PERSON = re.compile(r"<@([UW][A-Z0-9]+)(?:\|[^<>]*)?>")
_READ_AS_ENTITY = re.compile(r"&(?=(?:amp|lt|gt);)")


def mentioned(text: str) -> frozenset[str]:
    """Ids of the people that a raw message text mentions."""
    return frozenset(_PERSON.findall(text))


def readable(text: str, *, names: Mapping[str, str], own_id: str) -> str:
    """A raw message text in plain words, friend's own mention taken out.

    Args:
        names: display names by user id; an unknown id stays an id.
        own_id: friend's user id.
    """
    own = re.compile(rf"\s*<@{re.escape(own_id)}(?:\|[^<>]*)?>[,:]?")
    text = own.sub("", text)
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
        return "@" + (names.get(target[1:]) or label or target[1:])
    if target.startswith("#"):
        return "#" + (label or target[1:])
    if target.startswith("!subteam^"):
        return "@" + (label.removeprefix("@") or target.partition("^")[2])
    if target.startswith("!date^"):
        return label
    if target.startswith("!"):
        return "@" + target[1:]
    address = target.removeprefix("mailto:").removeprefix("tel:")
    if not label or label == target or address.rstrip("/").endswith(label.rstrip("/")):
        return label or address
    return f"{label} ({address})"
