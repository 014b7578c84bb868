"""Webhooks that speak for people: PluralKit and its like.

A person's own message is repeated by the application's webhook, under another name and without the
marks that called the application, and then deleted. Both are heard; they are one message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachetools import TTLCache

if TYPE_CHECKING:
    from collections.abc import Collection

    import discord

SECONDS = 30.0
"""How long after a message its repetition is looked for."""


class Proxies:
    """Finds the message that a webhook repeats.

    Args:
        applications: ids of the applications whose webhooks count as people.
    """

    def __init__(self, applications: Collection[str]) -> None:
        self.applications = applications
        self._said: TTLCache[int, tuple[int, str]] = TTLCache(10_000, SECONDS)

    def heard(self, message: discord.Message) -> None:
        """A person said this; it may be repeated."""
        if self.applications and message.webhook_id is None:
            self._said[message.id] = (message.channel.id, message.content)

    def gone(self, message_id: int) -> None:
        """A message was deleted before it was repeated."""
        self._said.pop(message_id, None)

    def original_of(self, message: discord.Message) -> int | None:
        """The message that a webhook's repeats: the newest there that has its words in it."""
        words = message.content.strip()
        for said, (channel, content) in reversed(list(self._said.items())):
            if words and channel == message.channel.id and words in content:
                del self._said[said]
                return said
        return None
