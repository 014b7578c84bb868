"""The nouns of a conversation, shared by every platform and the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from urllib.parse import quote, unquote


class Role(StrEnum):
    """Who spoke a turn; the values are those of the chat-completions wire."""

    USER = "user"
    FRIEND = "assistant"


@dataclass(frozen=True, slots=True)
class ConversationKey:
    """One memory: a channel, a thread or a direct-message channel.

    `space` is the Discord guild or Slack team ("" where there is none), `thread` is "" outside
    threads. Two messages share a history exactly when their keys are equal.
    """

    platform: str
    space: str
    channel: str
    thread: str = ""

    def __str__(self) -> str:
        parts = (self.platform, self.space, self.channel, self.thread)
        return "/".join(quote(part, safe="") for part in parts)

    @classmethod
    def parse(cls, text: str) -> ConversationKey:
        """Read back what `str()` wrote.

        Raises:
            ValueError: `text` does not have the four parts of a key.
        """
        parts = [unquote(part) for part in text.split("/")]
        if len(parts) != 4:
            raise ValueError(f"not a conversation key: {text!r}")
        return cls(*parts)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody on a platform; `id` is the platform's, `name` is what others see."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Quote:
    """An earlier message that another one answers. `speaker` is None for friend's own words."""

    message_id: str
    speaker: str | None
    text: str


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A message as a platform saw it, markup resolved.

    Attributes:
        event_id: unique on its platform for the message (not for its delivery), so that a
            redelivered event is recognised.
        text: the person's own words, friend's mention taken out and other markup made readable.
        sent_at: aware datetime, by the platform's clock.
        address: what the platform needs to answer later, even after a restart; JSON-able strings.
        beside: what else in the message holds words (a forward, a poll, a table), in words.
        files: what came with the words and is not read, each in a few words.
        quote: the message that this one answers, where the platform shows it above the words.
        to_others: it is spoken to somebody else.
        by_friend: friend said it; only what is remembered from before can be.
    """

    event_id: str
    conversation: ConversationKey
    message_id: str
    author: Person
    text: str
    sent_at: datetime
    address: Mapping[str, str] = field(default_factory=dict)
    is_direct: bool = False
    mentions_friend: bool = False
    replies_to_friend: bool = False
    in_friend_thread: bool = False
    from_bot: bool = False
    beside: str = ""
    files: tuple[str, ...] = ()
    quote: Quote | None = None
    to_others: bool = False
    by_friend: bool = False

    @property
    def heard(self) -> str:
        """All that was said with the message itself."""
        return "\n".join(part for part in (self.text, self.beside) if part)


@dataclass(frozen=True, slots=True)
class Turn:
    """One remembered message of a conversation.

    `id` grows with time within a store; `message_id` is the platform's.

    A reply stands in the conversation right after the message it answers, even when other messages
    came in while it was being made: `answers` is that message's turn id (None for a person's
    turn). It keeps that place when the message is erased.
    """

    id: int
    role: Role
    text: str
    message_id: str
    speaker: Person | None = None
    answers: int | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Sort key of the turn within its conversation."""
        return (self.id, 0) if self.answers is None else (self.answers, 1)


class ReplyState(StrEnum):
    """Where a promised reply stands; the first three survive a restart as work to do."""

    QUEUED = "queued"
    """Accepted; nothing has been written for it yet."""
    POSTING = "posting"
    """Its words are in the store; some or all of them may already be on the platform."""
    WITHDRAWING = "withdrawing"
    """Nobody wants it any more; a draft of it may still be on the platform."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class PendingReply:
    """A reply owed to somebody: the store's promise that it will be sent, once.

    Attributes:
        key: short (at most 20 characters of [a-z0-9]), unique; platforms derive nonces from it.
        address: of the message to answer; see `IncomingMessage.address`.
        turn_id: the `Turn.id` of the message to answer; None for a notice, which is friend's own
            sentence to a message, known from the start (or if the message was erased meanwhile).
        parts: the words to post, in order; empty while `state` is QUEUED.
        is_apology: the parts are friend's own rather than the model's, and stay out of the history.
        is_alone: when it was promised, this process owned the conversation and owed nothing else
            there; only said of a promise just made.
    """

    key: str
    conversation: ConversationKey
    author: Person
    turn_id: int | None
    address: Mapping[str, str]
    created_at: datetime
    state: ReplyState = ReplyState.QUEUED
    parts: tuple[str, ...] = ()
    is_apology: bool = False
    is_alone: bool = field(default=False, compare=False)

    @property
    def is_notice(self) -> bool:
        """Whether this is a sentence of friend's own rather than the reply to a turn."""
        return self.turn_id is None
