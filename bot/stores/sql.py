"""The store of `bot.core.ports`, in SQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core.conversation import (
    ConversationKey,
    IncomingMessage,
    PendingReply,
    Person,
    ReplyState,
    Role,
    Turn,
)
from bot.core.ports import Accepted
from bot.errors import StoreFailed
from bot.stores.queries import (
    CONVERSATION_KEY,
    OPEN,
    PLACE,
    add_reply,
    add_turn,
    end,
    enter,
    in_window,
    is_conversation,
    is_in_channel,
    lock,
    lock_reply,
    note_event,
    start_window,
    to_pending,
    to_turn,
    turns_of,
)
from bot.stores.schema import conversations, events, replies, turn_messages, turns
from bot.stores.transactions import Database

P = ParamSpec("P")
T = TypeVar("T")

EVENTS_KEPT_AT_LEAST = timedelta(days=2)
"""Accepted events are known again for this long, however short the retention: platforms redeliver
for minutes to hours, and a restart may be late."""


def _writes(
    method: Callable[Concatenate[SqlStore, AsyncConnection, P], Awaitable[T]],
) -> Callable[Concatenate[SqlStore, P], Coroutine[Any, Any, T]]:
    """Run the method in a transaction of its own; it may run again if the database says so."""

    @wraps(method)
    async def in_transaction(self: SqlStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.write(
            lambda connection: method(self, connection, *args, **kwargs)
        )

    return in_transaction


def _reads(
    method: Callable[Concatenate[SqlStore, AsyncConnection, P], Awaitable[T]],
) -> Callable[Concatenate[SqlStore, P], Coroutine[Any, Any, T]]:
    """Run the method in a read-only transaction."""

    @wraps(method)
    async def in_transaction(self: SqlStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.read(
            lambda connection: method(self, connection, *args, **kwargs)
        )

    return in_transaction


MOST_TURNS = 1000
"""Turns of a window that are read at most; far more than a model is given."""


class SqlStore:
    """Friend's memory in SQLite or PostgreSQL; see `bot.core.ports.Store`. Made by `open_store`.

    Every write to a conversation first locks its row. On PostgreSQL that makes turn ids grow in
    the order in which transactions commit, as they do on SQLite, which has one writer at a time.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    # -- messages and promises ------------------------------------------------------------------

    @_writes
    async def accept(
        self, connection: AsyncConnection, message: IncomingMessage, *, reply_key: str | None
    ) -> Accepted | None:
        """Remember a message once, and with a `reply_key` promise a reply to it."""
        conversation = message.conversation
        now = self._clock()
        if not await note_event(connection, conversation.platform, message.event_id, now):
            return None
        conversation_id = await enter(connection, conversation, now)
        turn_id = await add_turn(
            connection,
            conversation_id,
            Role.FRIEND if message.by_friend else Role.USER,
            message.text,
            [message.message_id],
            message.author,
            message.sent_at,
        )
        if reply_key is None:
            return Accepted(turn_id, None)
        reply = PendingReply(
            reply_key, conversation, message.author, turn_id, dict(message.address), now
        )
        await add_reply(connection, conversation_id, reply)
        return Accepted(turn_id, reply)

    @_writes
    async def first_sight(self, connection: AsyncConnection, platform: str, event_id: str) -> bool:
        """Note an event that is not to be remembered as a turn; False if it was known."""
        return await note_event(connection, platform, event_id, self._clock())

    @_writes
    async def promise(
        self,
        connection: AsyncConnection,
        conversation: ConversationKey,
        turn_id: int,
        *,
        reply_key: str,
        address: Mapping[str, str],
        author: Person,
    ) -> PendingReply:
        """Promise a (further) reply to a message already stored."""
        now = self._clock()
        conversation_id = await enter(connection, conversation, now)
        if not await connection.scalar(select(exists().where(turns.c.id == turn_id))):
            raise StoreFailed("The message to answer is no longer in the history.")
        reply = PendingReply(reply_key, conversation, author, turn_id, dict(address), now)
        await add_reply(connection, conversation_id, reply)
        return reply

    @_reads
    async def was_promised(self, connection: AsyncConnection, turn_id: int) -> bool:
        """Whether a reply to this turn was ever promised, whatever became of it."""
        promised = exists().where(replies.c.turn_id == turn_id)
        return bool(await connection.scalar(select(promised)))

    @_reads
    async def window(
        self, connection: AsyncConnection, conversation: ConversationKey
    ) -> Sequence[Turn]:
        """The turns since the last reset and from the kept window start on, by `Turn.place`.

        At most the newest `MOST_TURNS`: a channel that friend only listens to moves no window.
        """
        found = await connection.execute(
            in_window(select(turns, turn_messages.c.message_id), conversation)
            .outerjoin(
                turn_messages,
                (turn_messages.c.turn_id == turns.c.id) & (turn_messages.c.position == 0),
            )
            .order_by(PLACE.desc(), turns.c.id.desc())
            .limit(MOST_TURNS)
        )
        return [to_turn(row) for row in found][::-1]

    @_writes
    async def move_window(
        self, connection: AsyncConnection, conversation: ConversationKey, first_turn_id: int
    ) -> None:
        """Let the window start at this turn from now on; it never moves back."""
        place = await connection.scalar(select(PLACE).where(turns.c.id == first_turn_id))
        await start_window(connection, conversation, place or 2 * first_turn_id)

    # -- replies --------------------------------------------------------------------------------

    @_writes
    async def begin_posting(
        self,
        connection: AsyncConnection,
        keys: Sequence[str],
        parts: Sequence[str],
        *,
        is_apology: bool,
    ) -> bool:
        """Write the words of a reply before they are posted; see the port.

        Only the first to call this for a reply is told True: two processes that both recovered a
        promise do not both keep it. A promise that ended otherwise, or whose message was erased,
        counts as cancelled.
        """
        first, *others = keys
        if await lock_reply(connection, first) is None:
            return False
        begun = await connection.scalar(
            update(replies)
            .where(replies.c.key == first, replies.c.state == ReplyState.QUEUED)
            .values(state=ReplyState.POSTING, parts=list(parts), is_apology=is_apology)
            .returning(replies.c.id)
        )
        if begun is None:
            return False
        if others:
            await end(connection, replies.c.key.in_(others), ReplyState.DONE)
        return True

    @_writes
    async def finish(
        self, connection: AsyncConnection, key: str, message_ids: Sequence[str]
    ) -> None:
        """The words are posted: remember them as friend's turn (unless an apology).

        A second call, or a call after the reply was cancelled, changes nothing.
        """
        if await lock_reply(connection, key) is None:
            return
        reply = (
            await connection.execute(
                select(replies, turns.c.person_id, turns.c.person_name)
                .join(turns, turns.c.id == replies.c.turn_id)
                .where(replies.c.key == key, replies.c.state.in_(OPEN))
            )
        ).one_or_none()
        if reply is None:
            return
        await end(connection, replies.c.key == key, ReplyState.DONE)
        if reply.parts and not reply.is_apology:
            # To whom friend speaks: so that forgetting a person finds what was said to them.
            await add_turn(
                connection,
                reply.conversation_id,
                Role.FRIEND,
                "\n".join(reply.parts),
                message_ids,
                Person(reply.person_id, reply.person_name),
                self._clock(),
                answers=reply.turn_id,
            )

    @_writes
    async def close_reply(self, connection: AsyncConnection, key: str, state: ReplyState) -> None:
        """End a promise without words: FAILED or CANCELLED."""
        await end(connection, replies.c.key == key, state)

    @_writes
    async def unfinished(
        self, connection: AsyncConnection, platform: str, *, not_before: datetime
    ) -> Sequence[PendingReply]:
        """Promises still QUEUED or POSTING, oldest first; older ones are closed as FAILED."""
        here = select(conversations.c.id).where(conversations.c.platform == platform)
        await end(
            connection,
            replies.c.conversation_id.in_(here) & (replies.c.created_at < not_before),
            ReplyState.FAILED,
        )
        found = await connection.execute(
            select(replies, *CONVERSATION_KEY)
            .join(conversations, conversations.c.id == replies.c.conversation_id)
            .where(conversations.c.platform == platform, replies.c.state.in_(OPEN))
            .order_by(replies.c.id)
        )
        return [to_pending(row) for row in found]

    # -- what people take back ------------------------------------------------------------------

    @_writes
    async def drop_turn(self, connection: AsyncConnection, turn_id: int) -> None:
        """Take a turn out of the window for good (a reply that is to be given again)."""
        await connection.execute(update(turns).where(turns.c.id == turn_id).values(is_dropped=True))

    @_writes
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

    @_writes
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

        The turn is erased, and its promises with it. If it is one of several messages of a long
        reply, the whole reply is erased.
        """
        if await self._delete(platform, channel, message_id):
            await self._database.wipe_log()

    @_writes
    async def _delete(
        self, connection: AsyncConnection, platform: str, channel: str, message_id: str
    ) -> bool:
        found = turns_of(platform, channel, message_id)
        await lock(connection, select(turns.c.conversation_id).where(turns.c.id.in_(found)))
        erased = await connection.execute(delete(turns).where(turns.c.id.in_(found)))
        return erased.rowcount > 0

    @_writes
    async def reset(self, connection: AsyncConnection, conversation: ConversationKey) -> int:
        """Put every turn out of the window for good, cancel what is owed; return turns dropped.

        Replies whose words are just being posted are cancelled too: they stay out of the window.
        """
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
        await end(connection, replies.c.conversation_id == conversation_id, ReplyState.CANCELLED)
        return dropped or 0

    @_writes
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
        await end(connection, replies.c.conversation_id.in_(here), ReplyState.CANCELLED)
        return dropped or 0

    async def forget_person(self, platform: str, person_id: str) -> int:
        """Erase a person's messages everywhere on the platform; return how many.

        Friend's replies to them go as well, since a reply may repeat what it answers, and so do
        promises made to them. What others said about them stays: it is the others'.
        """
        forgotten = await self._forget(platform, person_id)
        await self._database.wipe_log()
        return forgotten

    @_writes
    async def _forget(self, connection: AsyncConnection, platform: str, person_id: str) -> int:
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
        await connection.execute(delete(turns).where(theirs))
        await connection.execute(delete(replies).where(owed))
        return spoken or 0

    async def expire(self, *, before: datetime) -> int:
        """Erase everything older than the retention limit; return how many messages."""
        erased = await self._expire(before)
        if erased:
            await self._database.wipe_log()
        return erased

    @_writes
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

    # -- the rest -------------------------------------------------------------------------------

    @_reads
    async def recent(
        self, connection: AsyncConnection, platform: str, *, limit: int
    ) -> Sequence[ConversationKey]:
        """The conversations of a platform in which people spoke last, the newest first."""
        found = await connection.execute(
            select(*CONVERSATION_KEY)
            .where(conversations.c.platform == platform)
            .order_by(conversations.c.active_at.desc(), conversations.c.id.desc())
            .limit(limit)
        )
        return [ConversationKey(*row) for row in found]

    @_reads
    async def is_friend_thread(
        self, connection: AsyncConnection, conversation: ConversationKey
    ) -> bool:
        """Whether friend has spoken in this conversation (for threads it is part of)."""
        spoken = exists().where(
            turns.c.conversation_id == conversations.c.id,
            is_conversation(conversation),
            turns.c.role == Role.FRIEND,
        )
        return bool(await connection.scalar(select(spoken)))

    async def close(self) -> None:
        """Release the database."""
        await self._database.close()
