"""The statements that several transactions share, and rows as the core's types."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, case, delete, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core.conversation import ConversationKey, PendingReply, Person, ReplyState, Role, Turn
from bot.stores.schema import conversations, events, replies, turn_messages, turns

OPEN = (ReplyState.QUEUED, ReplyState.POSTING)
TO_DO = (*OPEN, ReplyState.WITHDRAWING)


class Place(NamedTuple):
    """A conversation's row, locked, and the process that keeps the promises made there."""

    id: int
    owner: str | None
    owned_until: datetime | None


PLACE: ColumnElement[int] = case(
    (turns.c.answers.is_(None), 2 * turns.c.id), else_=2 * turns.c.answers + 1
)
"""`Turn.place` as one number: a person's turn is even, a reply the odd number after it."""

CONVERSATION_KEY = (
    conversations.c.platform,
    conversations.c.space,
    conversations.c.channel,
    conversations.c.thread,
)

_OWNED = (conversations.c.id, conversations.c.owner, conversations.c.owned_until)


def is_conversation(conversation: ConversationKey) -> ColumnElement[bool]:
    """Pick the row of one conversation."""
    return (
        (conversations.c.platform == conversation.platform)
        & (conversations.c.space == conversation.space)
        & (conversations.c.channel == conversation.channel)
        & (conversations.c.thread == conversation.thread)
    )


def is_in_channel(channel: ConversationKey) -> ColumnElement[bool]:
    """Pick the rows of a channel's own conversation and of its threads."""
    return (
        (conversations.c.platform == channel.platform)
        & (conversations.c.space == channel.space)
        & (conversations.c.channel == channel.channel)
    )


def in_window(query: Select[Any], conversation: ConversationKey) -> Select[Any]:
    """Narrow `query` to the turns that are in the window of one conversation."""
    return (
        query.select_from(turns)
        .join(conversations, conversations.c.id == turns.c.conversation_id)
        .where(
            is_conversation(conversation),
            conversations.c.window_start <= PLACE,
            2 * turns.c.id >= conversations.c.window_start - 1,  # implied by the line above
            ~turns.c.is_dropped,
        )
    )


def turns_of(platform: str, channel: str, message_id: str) -> Select[tuple[int]]:
    """Ids of the turns that a message is (part of); a thread counts as a channel here."""
    return (
        select(turn_messages.c.turn_id)
        .join(turns, turns.c.id == turn_messages.c.turn_id)
        .join(conversations, conversations.c.id == turns.c.conversation_id)
        .where(
            turn_messages.c.message_id == message_id,
            conversations.c.platform == platform,
            or_(conversations.c.channel == channel, conversations.c.thread == channel),
        )
    )


async def lock(connection: AsyncConnection, conversation_ids: Any) -> None:
    """Lock conversations, in one order everywhere so that two processes never wait in a ring."""
    await connection.execute(
        select(conversations.c.id)
        .where(conversations.c.id.in_(conversation_ids))
        .order_by(conversations.c.id)
        .with_for_update()
    )


async def place_of(connection: AsyncConnection, conversation: ConversationKey) -> Place | None:
    """Lock a conversation; None if there is no such."""
    found = await connection.execute(
        select(*_OWNED).where(is_conversation(conversation)).with_for_update()
    )
    row = found.one_or_none()
    return None if row is None else Place(*row)


async def lock_reply(connection: AsyncConnection, key: str) -> Place | None:
    """Lock the conversation of a reply; None if there is no such reply."""
    found = await connection.execute(
        select(*_OWNED)
        .join(replies, replies.c.conversation_id == conversations.c.id)
        .where(replies.c.key == key)
        .with_for_update(of=conversations)
    )
    row = found.one_or_none()
    return None if row is None else Place(*row)


async def end(connection: AsyncConnection, which: ColumnElement[bool], state: ReplyState) -> None:
    """Close promises, or leave them to be withdrawn; words to be posted are not kept twice.

    A notice that is over leaves no row: nothing was remembered for it.
    """
    from_states = OPEN if state is ReplyState.WITHDRAWING else TO_DO
    if state is not ReplyState.WITHDRAWING:
        await connection.execute(
            delete(replies).where(
                which, replies.c.turn_id.is_(None), replies.c.state.in_(from_states)
            )
        )
    await connection.execute(
        update(replies).where(which, replies.c.state.in_(from_states)).values(state=state, parts=[])
    )


async def still_to_do(connection: AsyncConnection, conversation_id: int) -> frozenset[str]:
    """Keys of the promises of a conversation that somebody has to see to."""
    found = await connection.scalars(
        select(replies.c.key).where(
            replies.c.conversation_id == conversation_id, replies.c.state.in_(TO_DO)
        )
    )
    return frozenset(found)


async def note_event(
    connection: AsyncConnection, platform: str, event_id: str, now: datetime
) -> bool:
    """Note an event; False if it was known. Of two who note it at once, one is told so."""
    noted = await connection.scalar(
        _upsert(connection)(events)
        .values(platform=platform, event_id=event_id, accepted_at=now)
        .on_conflict_do_nothing()
        .returning(events.c.event_id)
    )
    return noted is not None


async def note_spoken(connection: AsyncConnection, conversation_id: int) -> None:
    """Note that friend has said something in a conversation."""
    await connection.execute(
        update(conversations)
        .where(conversations.c.id == conversation_id, ~conversations.c.has_spoken)
        .values(has_spoken=True)
    )


async def enter(connection: AsyncConnection, conversation: ConversationKey, now: datetime) -> Place:
    """A conversation, its row made if need be, and locked."""
    entered = await connection.execute(
        _upsert(connection)(conversations)
        .values(
            platform=conversation.platform,
            space=conversation.space,
            channel=conversation.channel,
            thread=conversation.thread,
            window_start=0,
            active_at=now,
            has_spoken=False,
        )
        .on_conflict_do_update(
            index_elements=[column.name for column in CONVERSATION_KEY],
            set_={"active_at": now},
        )
        .returning(*_OWNED)
    )
    return Place(*entered.one())


async def start_window(
    connection: AsyncConnection, conversation: ConversationKey, place: int
) -> None:
    """Let the window start at a place; it never moves back."""
    await connection.execute(
        update(conversations)
        .where(is_conversation(conversation), conversations.c.window_start < place)
        .values(window_start=place)
    )


async def add_turn(
    connection: AsyncConnection,
    conversation_id: int,
    role: Role,
    text: str,
    message_ids: Iterable[str],
    person: Person,
    sent_at: datetime,
    *,
    answers: int | None = None,
) -> int:
    """Append a turn to a conversation, which must be locked; return its id."""
    added = await connection.execute(
        insert(turns)
        .values(
            conversation_id=conversation_id,
            role=role,
            text=text,
            person_id=person.id,
            person_name=person.name,
            answers=answers,
            is_dropped=False,
            sent_at=sent_at,
        )
        .returning(turns.c.id)
    )
    turn_id = int(added.scalar_one())
    rows = [
        {"turn_id": turn_id, "position": position, "message_id": message_id}
        for position, message_id in enumerate(message_ids)
    ]
    if rows:
        await connection.execute(insert(turn_messages), rows)
    return turn_id


async def add_reply(connection: AsyncConnection, conversation_id: int, reply: PendingReply) -> None:
    """Write down a promise; the conversation must be locked."""
    await connection.execute(
        insert(replies).values(
            key=reply.key,
            conversation_id=conversation_id,
            turn_id=reply.turn_id,
            author_id=reply.author.id,
            author_name=reply.author.name,
            address=reply.address,
            state=reply.state,
            parts=reply.parts,
            is_apology=reply.is_apology,
            created_at=reply.created_at,
        )
    )


def to_turn(row: Row[Any]) -> Turn:
    """Read a row of `turns` with the `message_id` of its first message."""
    role = Role(row.role)
    speaker = Person(row.person_id, row.person_name) if role is Role.USER else None
    return Turn(row.id, role, row.text, row.message_id or "", speaker, row.answers)


def to_pending(row: Row[Any]) -> PendingReply:
    """Read a row of `replies` with its `CONVERSATION_KEY`."""
    return PendingReply(
        key=row.key,
        conversation=ConversationKey(row.platform, row.space, row.channel, row.thread),
        author=Person(row.author_id, row.author_name),
        turn_id=row.turn_id,
        address=row.address,
        created_at=row.created_at,
        state=ReplyState(row.state),
        parts=tuple(row.parts),
        is_apology=row.is_apology,
    )


def _upsert(connection: AsyncConnection) -> Any:
    """`insert` with ON CONFLICT, which each dialect has for itself."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
