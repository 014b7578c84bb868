"""What carries words between people and friend; the core speaks back through its outlets."""

from __future__ import annotations

from typing import Protocol

from bot.core.friend import Friend
from bot.core.ports import Outlets


class Platform(Outlets, Protocol):
    """A place where people talk to friend."""

    name: str

    @property
    def is_connected(self) -> bool:
        """Whether messages can be heard now; for health checks."""
        ...

    async def run(self, friend: Friend) -> None:
        """Connect, and carry messages to `friend` until cancelled.

        Calls `friend.recover` once, as soon as it can post. Returns or raises when it cannot go
        on; the supervisor runs it again, except after `bot.errors.PlatformFailed`.
        """
        ...
