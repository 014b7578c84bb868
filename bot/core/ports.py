"""What the core asks of the world: a place to remember, and a place to speak."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
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
    """A message that is now safely stored; `reply` is set when something is owed for it."""

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


class Deed(StrEnum):
    """What a message can ask of the history."""

    NOTHING = "nothing"
    """Only words are owed for it."""
    RESET = "reset"
    FORGET = "forget"


class Store(Protocol):
    """Friend's memory. Each method is one transaction; every write is durable on return.

    Several processes may share it. A conversation in which something is owed has one owner among
    them, by a lease that the owner renews; only the owner keeps promises there. Whoever promises
    something where nothing is owed becomes the owner; whoever finds the owner dead takes over.

    Raises `bot.errors.StoreFailed` when the database cannot be read or written.
    """

    async def accept(
        self, message: IncomingMessage, *, reply_key: str | None, words: str = ""
    ) -> Accepted | None:
        """Remember a message once, and with a `reply_key` promise a reply to it.

        With `words`, these are promised instead of a reply to the message: a notice.
        Returns None, and changes nothing, if the event was accepted before.
        """
        ...

    async def carry_out(
        self,
        deed: Deed,
        message: IncomingMessage,
        *,
        reply_key: str,
        words: Callable[[int], str],
    ) -> PendingReply | None:
        """Do once what a message asks for, and promise to say so; the message is not remembered.

        Args:
            words: what to say, from the number of turns or messages that the deed took.

        Returns None, and changes nothing, if the event was known.
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
        event_id: str | None = None,
    ) -> PendingReply | None:
        """Promise a (further) reply to a message already stored.

        With the event that asked for it: once; None, and nothing changed, if the event was known.
        """
        ...

    async def first_sight(self, platform: str, event_id: str) -> bool:
        """Note an event for which nothing is to be done; False if it was known."""
        ...

    async def is_known(self, platform: str, event_id: str) -> bool:
        """Whether an event was accepted, or what it asked for was done."""
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

    async def owed(self, conversation: ConversationKey) -> Sequence[PendingReply] | None:
        """What is to be done in a conversation, oldest first, and own it from now on.

        None if another process owns it.
        """
        ...

    async def claim(self, platform: str, *, not_before: datetime) -> Sequence[PendingReply]:
        """What is to be done on a platform where no other process is at it, oldest first.

        The conversations concerned are this process's own from now on. Promises from before
        `not_before` are closed as FAILED.
        """
        ...

    async def renew(self, conversations: Iterable[ConversationKey]) -> Sequence[ConversationKey]:
        """Stay the owner of these; return those that another process has taken over."""
        ...

    async def begin_posting(
        self, keys: Sequence[str], parts: Sequence[str], *, is_apology: bool
    ) -> bool:
        """Write the words of a reply before they are posted.

        `keys[0]` will carry them; the other promises of a burst are answered by it and are DONE.
        Returns False, and changes nothing, if `keys[0]` is no longer QUEUED, cancelled by a reset
        or a deletion, or if another process owns the conversation now.
        """
        ...

    async def finish(self, key: str, message_ids: Sequence[str]) -> frozenset[str]:
        """The words are posted: remember them as friend's turn (unless an apology).

        What friend said to the same turn before is out of the window then. Returns the keys of
        what is still to be done in the conversation.
        """
        ...

    async def close_reply(self, key: str, state: ReplyState) -> frozenset[str]:
        """End a promise without words: FAILED, CANCELLED, or WITHDRAWING for a draft's sake.

        Returns the keys of what is still to be done in the conversation.
        """
        ...

    async def close_withdrawn(self, conversation: ConversationKey) -> None:
        """No draft is left of what was cancelled here; does nothing where another process owns."""
        ...

    async def unfinished(self, platform: str, *, not_before: datetime) -> Sequence[PendingReply]:
        """Promises still QUEUED or POSTING, oldest first; older ones are closed as FAILED."""
        ...

    async def drop_turn(self, turn_id: int) -> None:
        """Take a turn out of the window for good."""
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
        """Follow a deletion: friend's answer goes too, and a promise to answer is cancelled."""
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
        """Whether friend has said anything here, its own sentences included, or is about to."""
        ...

    async def close(self) -> None:
        """Leave what is owed to others, and release the database."""
        ...
