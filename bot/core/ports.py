"""What the core asks of the world: a place to remember, and a place to speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bot.core.conversation import (
    ConversationKey,
    IncomingMessage,
    PendingReply,
    Person,
    ReplyState,
    Turn,
)
from inference_client import Timings


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that is now safely stored; `reply` is set when one is owed for it."""

    turn_id: int
    reply: PendingReply | None


class Outlet(Protocol):
    """The way back to one message: made by a platform from a stored address.

    Every method may raise `bot.errors.DeliveryFailed`.
    """

    max_characters: int
    """The longest single message the platform takes, in the unit of `characters`."""

    own_names: frozenset[str]
    """What friend is called there."""

    def characters(self, text: str) -> int:
        """Length of `text` as this platform counts it."""
        ...

    def working(self) -> AbstractAsyncContextManager[None]:
        """Show that friend is thinking (typing, status) until the context ends, then clear it."""
        ...

    async def show(self, text: str) -> bool:
        """Offer the reply as far as it is known; return whether any of it is visible by now.

        The platform decides whether and how often to show it; it may post a draft that `deliver`
        completes. Never raises for a failure to show: a partial view is a courtesy. If the caller
        is cancelled meanwhile, `withdraw` and `deliver` still know of the draft.
        """
        ...

    async def deliver(self, parts: Sequence[str]) -> Sequence[str]:
        """Post the final parts in order and return their message ids.

        Idempotent under the outlet's reply key: what an earlier call, or an earlier process, has
        already posted under the key is found and completed rather than posted again.
        """
        ...

    async def withdraw(self) -> None:
        """Take back a shown draft, when its reply is no longer wanted."""
        ...


class Outlets(Protocol):
    """Whoever can make the way back to a message; a `bot.core.platform.Platform` can."""

    def outlet(self, address: Mapping[str, str], reply_key: str, *, recovering: bool) -> Outlet:
        """Make the way back to a message.

        Args:
            address: as stored from `IncomingMessage.address`.
            reply_key: `PendingReply.key`.
            recovering: an earlier attempt (perhaps of a killed process) may have posted already;
                look before posting.
        """
        ...


class Observer(Protocol):
    """Whoever counts what happens (metrics); every method returns at once and never raises."""

    def received(self, platform: str, outcome: str) -> None:
        """Count a message: queued, remembered, duplicate, ignored, command, limited, behind."""
        ...

    def replied(self, platform: str, outcome: str, times: ReplyTimes) -> None:
        """Count a reply: answered, apologised, cancelled, undelivered."""
        ...


@dataclass(frozen=True, slots=True)
class ReplyTimes:
    """Seconds from the acceptance of a message to each step of its reply; None: not reached."""

    started: float | None = None
    first_word: float | None = None
    words: float | None = None
    posted: float | None = None
    model: Timings | None = None
    """What the model server says of its own part."""


class Store(Protocol):
    """Friend's memory. Each method is one transaction; every write is durable on return.

    Raises `bot.errors.StoreFailed` when the database cannot be read or written.
    """

    async def accept(self, message: IncomingMessage, *, reply_key: str | None) -> Accepted | None:
        """Remember a message once, and with a `reply_key` promise a reply to it.

        Returns None, and changes nothing, if the event was accepted before.
        """
        ...

    async def first_sight(self, platform: str, event_id: str) -> bool:
        """Note an event that is not to be remembered as a turn (a command, a bare mention).

        Returns False if it was noted or accepted before.
        """
        ...

    async def promise(
        self,
        conversation: ConversationKey,
        turn_id: int,
        *,
        reply_key: str,
        address: Mapping[str, str],
        author: Person,
    ) -> PendingReply:
        """Promise a (further) reply to a message already stored."""
        ...

    async def was_promised(self, turn_id: int) -> bool:
        """Whether a reply to this turn was ever promised, whatever became of it."""
        ...

    async def window(self, conversation: ConversationKey) -> Sequence[Turn]:
        """The turns since the last reset and from the kept window start on, by `Turn.place`.

        A reply (`Turn.answers` set by `finish` from the promise's `turn_id`) stands right after
        the message it answers.
        """
        ...

    async def move_window(self, conversation: ConversationKey, first_turn_id: int) -> None:
        """Let the window start at this turn from now on."""
        ...

    async def begin_posting(
        self, keys: Sequence[str], parts: Sequence[str], *, is_apology: bool
    ) -> bool:
        """Write the words of a reply before they are posted.

        `keys[0]` will carry them; the other promises of a burst are answered by it and are DONE.
        Returns False, and changes nothing, if `keys[0]` is no longer QUEUED: cancelled by a reset
        or a deletion, or written by another process that recovered it too.
        """
        ...

    async def finish(self, key: str, message_ids: Sequence[str]) -> None:
        """The words are posted: remember them as friend's turn (unless an apology)."""
        ...

    async def close_reply(self, key: str, state: ReplyState) -> None:
        """End a promise without words: FAILED or CANCELLED."""
        ...

    async def unfinished(self, platform: str, *, not_before: datetime) -> Sequence[PendingReply]:
        """Promises still QUEUED or POSTING, oldest first; older ones are closed as FAILED."""
        ...

    async def drop_turn(self, turn_id: int) -> None:
        """Take a turn out of the window for good (a reply that is to be given again)."""
        ...

    async def edit(self, platform: str, channel: str, message_id: str, text: str) -> None:
        """Follow an edit of a remembered message; unknown messages are ignored."""
        ...

    async def replace(self, message_id: str, message: IncomingMessage) -> bool:
        """Put a message in the place of a remembered one; promises to answer it then answer this.

        Returns False, and changes nothing, if no message with this id is remembered there.
        """
        ...

    async def delete(self, platform: str, channel: str, message_id: str) -> None:
        """Follow a deletion; a promise to answer a deleted message is cancelled."""
        ...

    async def reset(self, conversation: ConversationKey) -> int:
        """Put every turn out of the window for good, cancel what is owed; return turns dropped."""
        ...

    async def reset_channel(self, channel: ConversationKey) -> int:
        """`reset` for a channel and all of its threads at once; `channel.thread` is ignored."""
        ...

    async def forget_person(self, platform: str, person_id: str) -> int:
        """Erase a person's messages everywhere on the platform; return how many."""
        ...

    async def expire(self, *, before: datetime) -> int:
        """Erase everything older than the retention limit; return how many messages."""
        ...

    async def recent(self, platform: str, *, limit: int) -> Sequence[ConversationKey]:
        """The conversations of a platform in which people spoke last, the newest first."""
        ...

    async def is_friend_thread(self, conversation: ConversationKey) -> bool:
        """Whether friend has spoken in this conversation (for threads it is part of)."""
        ...

    async def close(self) -> None:
        """Release the database."""
        ...
