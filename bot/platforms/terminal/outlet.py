"""The terminal as a platform: how replies get back to whoever waits for them here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from bot.core.conversation import ConversationKey, IncomingMessage, Person
from bot.core.ports import Outlet
from bot.errors import DeliveryFailed
from bot.platforms.terminal import texts

if TYPE_CHECKING:
    from bot.core.friend import Friend

PLATFORM = "terminal"


class View(Protocol):
    """Where a reply shows while it is made."""

    def show(self, text: str) -> bool:
        """Show the reply as far as it is known; return whether any of it can be seen."""
        ...


class Hidden:
    """No view at all: a pipe gets whole replies."""

    def show(self, text: str) -> bool:
        """Show nothing."""
        return False


class TerminalPlatform:
    """Makes messages of what is typed, and keeps what comes back for the one who waits.

    One message is under way at a time; see `Exchange`.
    """

    name = PLATFORM

    def __init__(self, *, session: str, person: Person, view: View | None = None) -> None:
        self.conversation = ConversationKey(PLATFORM, "", session)
        self.person = person
        self.draft = Draft(view or Hidden())

    @property
    def is_connected(self) -> bool:
        """Always: the person is right here."""
        return True

    def message(self, text: str) -> IncomingMessage:
        """A new message of the person, to which the next replies belong."""
        self.draft.begin()
        return IncomingMessage(
            event_id=self.draft.message_id,
            conversation=self.conversation,
            message_id=self.draft.message_id,
            author=self.person,
            text=text,
            sent_at=datetime.now(UTC),
            address={"message": self.draft.message_id},
            is_direct=True,
        )

    async def run(self, friend: Friend) -> None:
        """Nothing to connect: the window and the pipe call `friend` from their own loops."""
        await asyncio.Event().wait()

    def outlet(self, address: Mapping[str, str], reply_key: str, *, recovering: bool) -> Outlet:
        """See `bot.core.platform.Platform`; a message of another process has nobody waiting."""
        if address.get("message") != self.draft.message_id:
            return TerminalOutlet(None, reply_key)
        return TerminalOutlet(self.draft, reply_key)


class Draft:
    """What has come back for the message under way."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.begin()

    def begin(self) -> None:
        """Forget the last message; wait for a reply to a new one."""
        self.message_id = uuid4().hex
        self.reply_key = ""
        self.shown = ""
        self.delivered: dict[str, Sequence[str]] = {}

    def show(self, text: str) -> bool:
        """Show the reply so far, and note what can be seen of it."""
        visible = self._view.show(text)
        if visible:
            self.shown = text
        return visible

    @property
    def text(self) -> str:
        """Everything that was delivered."""
        return "\n\n".join(part for parts in self.delivered.values() for part in parts)


class TerminalOutlet:
    """See `bot.core.ports.Outlet`."""

    max_characters = 1_000_000
    own_names = frozenset({"friend"})

    def __init__(self, draft: Draft | None, reply_key: str) -> None:
        self._draft = draft
        self._key = reply_key
        if draft is not None:
            draft.reply_key = reply_key

    def characters(self, text: str) -> int:
        """Length in code points; a terminal has no limit worth counting to."""
        return len(text)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Nothing to do: the window shows that it waits from the moment a line is sent."""
        yield

    async def show(self, text: str) -> bool:
        """Stream to the view."""
        return self._draft is not None and self._draft.show(text)

    async def deliver(self, parts: Sequence[str]) -> Sequence[str]:
        """Hand the reply to whoever waits; the view completes it when the exchange ends."""
        if self._draft is None:
            raise DeliveryFailed(texts.ASKED_ELSEWHERE, retryable=False)
        self._draft.delivered[self._key] = list(parts)
        return [f"{self._key}-{number}" for number in range(len(parts))]

    async def withdraw(self) -> None:
        """Nothing to do: what has been read stays on the screen, marked as stopped."""
