"""What people take back: edits, deletions, resets, forgetting; and what time takes."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core.conversation import ConversationKey, IncomingMessage, ReplyState, Role
from bot.stores.calls import Calls, writes
from bot.stores.queries import (
    PLACE,
    end,
    in_window,
    is_conversation,
    is_in_channel,
    lock,
    note_event,
    start_window,
    turns_of,
)
from bot.stores.schema import conversations, events, replies, turn_messages, turns

EVENTS_KEPT_AT_LEAST = timedelta(days=2)
"""Accepted events are known again for this long, however short the retention: platforms redeliver
for minutes to hours, and a restart may be late."""


async def put_behind(connection: AsyncConnection, conversation: ConversationKey) -> int:
    """Put every turn out of the window for good, cancel what is owed; return turns dropped."""
    conversation_id = await connection.scalar(
        select(conversations.c.id).where(is_conversation(conversation)).with_for_update()
    )
    if conversation_id is None:
        return 0
    dropped = await connection.scalar(in_window(select(func.count()), conversation))
    last = await connection.scalar(
        select(func.max(turns.c.id)).where(turns.c.conversation_id == conversation_id)
    )
    if last is not None:
        await start_window(connection, conversation, 2 * (last + 1))  # past every place so far
    await end(connection, replies.c.conversation_id == conversation_id, ReplyState.WITHDRAWING)
    return dropped or 0


async def forget(connection: AsyncConnection, platform: str, person_id: str) -> int:
    """Erase a person's messages and what was said to them on a platform; return how many."""
    here = select(conversations.c.id).where(conversations.c.platform == platform)
    theirs = (turns.c.person_id == person_id) & turns.c.conversation_id.in_(here)
    owed = (replies.c.author_id == person_id) & replies.c.conversation_id.in_(here)
    await lock(
        connection,
        select(turns.c.conversation_id)
        .where(theirs)
        .union(select(replies.c.conversation_id).where(owed)),
    )
    spoken = await connection.scalar(
        select(func.count()).select_from(turns).where(theirs, turns.c.role == Role.USER)
    )
    gone = select(turns.c.id).where(theirs)
    await _unwanted(connection, owed | replies.c.turn_id.in_(gone))
    await connection.execute(delete(turns).where(theirs))
    await connection.execute(delete(replies).where(owed, replies.c.state != ReplyState.WITHDRAWING))
    left = await connection.execute(select(replies.c.id, replies.c.address).where(owed))
    for row in left:
        address = {k: "" if v == person_id else v for k, v in row.address.items()}
        await connection.execute(
            update(replies)
            .where(replies.c.id == row.id)
            .values(author_id="", author_name="", address=address)
        )
    return spoken or 0


async def _unwanted(connection: AsyncConnection, which: ColumnElement[bool]) -> None:
    """Cancel promises whose message is about to be erased; a draft of theirs may be left."""
    await end(connection, which, ReplyState.WITHDRAWING)
    await connection.execute(
        update(replies).where(which, replies.c.state == ReplyState.WITHDRAWING).values(turn_id=None)
    )


class Erasing(Calls):
    """The part of the store that changes and erases what was said."""

    @writes
    async def drop_turn(self, connection: AsyncConnection, turn_id: int) -> None:
        """Take a turn out of the window for good (a reply that is to be given again)."""
        await connection.execute(update(turns).where(turns.c.id == turn_id).values(is_dropped=True))

    @writes
    async def edit(
        self, connection: AsyncConnection, platform: str, channel: str, message_id: str, text: str
    ) -> None:
        """Follow an edit of a remembered message; unknown messages are ignored.

        Friend's own are left alone: its words are known, and while a reply is streamed a platform
        reports each step of it as an edit.
        """
        await connection.execute(
            update(turns)
            .where(
                turns.c.role == Role.USER, turns.c.id.in_(turns_of(platform, channel, message_id))
            )
            .values(text=text)
        )

    @writes
    async def replace(
        self, connection: AsyncConnection, message_id: str, message: IncomingMessage
    ) -> bool:
        """Put a message in the place of a remembered one; see the port."""
        place, author = message.conversation, message.author
        found = turns_of(place.platform, place.channel, message_id)
        await lock(connection, select(turns.c.conversation_id).where(turns.c.id.in_(found)))
        turn_ids = list(
            await connection.scalars(
                select(turns.c.id).where(turns.c.role == Role.USER, turns.c.id.in_(found))
            )
        )
        if not turn_ids:
            return False
        await note_event(connection, place.platform, message.event_id, self._clock())
        await connection.execute(
            update(turns)
            .where(turns.c.id.in_(turn_ids))
            .values(text=message.text, person_id=author.id, person_name=author.name)
        )
        await connection.execute(
            update(turn_messages)
            .where(turn_messages.c.turn_id.in_(turn_ids), turn_messages.c.message_id == message_id)
            .values(message_id=message.message_id)
        )
        await connection.execute(
            update(replies)
            .where(replies.c.turn_id.in_(turn_ids), replies.c.state == ReplyState.QUEUED)
            .values(author_id=author.id, author_name=author.name, address=dict(message.address))
        )
        return True

    async def delete(self, platform: str, channel: str, message_id: str) -> None:
        """Follow a deletion; a promise to answer a deleted message is cancelled.

        The turn is erased, and friend's answer to it, which may repeat what it answers. If it is
        one of several messages of a long reply, the whole reply is erased.
        """
        if await self._delete(platform, channel, message_id):
            await self._database.wipe_log()

    @writes
    async def _delete(
        self, connection: AsyncConnection, platform: str, channel: str, message_id: str
    ) -> bool:
        found = turns_of(platform, channel, message_id)
        await lock(connection, select(turns.c.conversation_id).where(turns.c.id.in_(found)))
        ids = list(await connection.scalars(found))
        if not ids:
            return False
        in_bursts = select(replies.c.carried_by).where(replies.c.turn_id.in_(ids))
        answered = select(replies.c.turn_id).where(replies.c.key.in_(in_bursts))
        answers = or_(turns.c.answers.in_(ids), turns.c.answers.in_(answered))
        await connection.execute(delete(turns).where(answers))
        await _unwanted(connection, replies.c.turn_id.in_(ids))
        await connection.execute(delete(turns).where(turns.c.id.in_(ids)))
        return True

    @writes
    async def reset(self, connection: AsyncConnection, conversation: ConversationKey) -> int:
        """Put every turn out of the window for good, cancel what is owed; return turns dropped.

        Replies whose words are just being posted are cancelled too: they stay out of the window.
        """
        return await put_behind(connection, conversation)

    @writes
    async def reset_channel(self, connection: AsyncConnection, channel: ConversationKey) -> int:
        """`reset` for a channel and all of its threads at once."""
        here = select(conversations.c.id).where(is_in_channel(channel))
        await lock(connection, here)
        dropped = await connection.scalar(
            select(func.count())
            .select_from(turns)
            .join(conversations, conversations.c.id == turns.c.conversation_id)
            .where(
                is_in_channel(channel),
                conversations.c.window_start <= PLACE,
                ~turns.c.is_dropped,
            )
        )
        last = await connection.scalar(
            select(func.max(turns.c.id)).where(turns.c.conversation_id.in_(here))
        )
        if last is not None:
            place = 2 * (last + 1)
            await connection.execute(
                update(conversations)
                .where(is_in_channel(channel), conversations.c.window_start < place)
                .values(window_start=place)
            )
        await end(connection, replies.c.conversation_id.in_(here), ReplyState.WITHDRAWING)
        return dropped or 0

    async def forget_person(self, platform: str, person_id: str) -> int:
        """Erase a person's messages everywhere on the platform; return how many.

        Friend's replies to them go as well, since a reply may repeat what it answers, and so do
        promises made to them. What others said about them stays: it is the others'.
        """
        forgotten = await self._forget(platform, person_id)
        await self._database.wipe_log()
        return forgotten

    @writes
    async def _forget(self, connection: AsyncConnection, platform: str, person_id: str) -> int:
        return await forget(connection, platform, person_id)

    async def expire(self, *, before: datetime) -> int:
        """Erase everything older than the retention limit; return how many messages."""
        erased = await self._expire(before)
        if erased:
            await self._database.wipe_log()
        return erased

    @writes
    async def _expire(self, connection: AsyncConnection, before: datetime) -> int:
        erased = await connection.execute(delete(turns).where(turns.c.sent_at < before))
        await connection.execute(delete(replies).where(replies.c.created_at < before))
        await connection.execute(
            delete(conversations).where(
                conversations.c.active_at < before,
                ~exists().where(turns.c.conversation_id == conversations.c.id),
                ~exists().where(replies.c.conversation_id == conversations.c.id),
            )
        )
        known_again = min(before, self._clock() - EVENTS_KEPT_AT_LEAST)
        await connection.execute(delete(events).where(events.c.accepted_at < known_again))
        return erased.rowcount
