"""Who a message mentions, and whom it pings: allowed_mentions as Discord reads it.

https://discord.com/developers/docs/resources/message#allowed-mentions-object
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.fakes.discord.wire import Json, invalid_form

if TYPE_CHECKING:
    from tests.fakes.discord.entities import Channel, Message, Role, User

_USER = re.compile(r"<@!?(\d+)>")
_ROLE = re.compile(r"<@&(\d+)>")
_EVERYONE = re.compile(r"@(everyone|here)\b")
_CODE = re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_KINDS = {"users", "roles", "everyone"}


@dataclass
class Resolved:
    users: list[User] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    everyone: list[str] = field(default_factory=list)
    reply_ping: bool = False

    @property
    def pinged(self) -> list[int | str]:
        return [*(u.id for u in self.users), *(r.id for r in self.roles), *self.everyone]


def validate(allowed: Json | None) -> None:
    """Raise 50035 for what Discord refuses: unknown kinds, ``parse`` and a list for one kind."""
    if allowed is None:
        return
    parse = set(allowed.get("parse", []))
    if parse - _KINDS:
        raise invalid_form("allowed_mentions.parse", "BASE_TYPE_CHOICES", "Unknown mention kind.")
    for kind in ("users", "roles"):
        if kind in parse and allowed.get(kind):
            raise invalid_form(
                f"allowed_mentions.{kind}",
                "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE",
                f'parse:["{kind}"] and {kind}: [ids...] are mutually exclusive.',
            )
        if len(allowed.get(kind, [])) > 100:
            raise invalid_form(
                f"allowed_mentions.{kind}", "BASE_TYPE_MAX_LENGTH", "Must be 100 or fewer."
            )


def resolve(
    content: str,
    channel: Channel,
    users: dict[int, User],
    allowed: Json | None,
    reference: Message | None,
) -> Resolved:
    """What ``content`` mentions once ``allowed`` has been applied; None allows everything.

    In code nothing is a mention.
    A reply to a slash command's answer never pings its author:
    https://github.com/discord/discord-api-docs/issues/5395
    """
    parse = set(_KINDS) if allowed is None else set(allowed.get("parse", []))
    only = {kind: {int(i) for i in (allowed or {}).get(kind, [])} for kind in ("users", "roles")}
    found = Resolved()
    content = _CODE.sub(" ", content)
    for match in _USER.finditer(content):
        user = users.get(int(match[1]))
        if user and user not in found.users and ("users" in parse or user.id in only["users"]):
            found.users.append(user)
    guild = channel.guild
    if guild is not None:
        for match in _ROLE.finditer(content):
            role = guild.roles.get(int(match[1]))
            if role and role not in found.roles and ("roles" in parse or role.id in only["roles"]):
                found.roles.append(role)
        if "everyone" in parse and "mention_everyone" not in channel.denied:
            found.everyone = sorted({match[1] for match in _EVERYONE.finditer(content)})
    replied_user = True if allowed is None else allowed.get("replied_user", False)
    if reference is not None and replied_user and reference.interaction is None:
        found.reply_ping = True
        if reference.author not in found.users:
            found.users.append(reference.author)
    return found
