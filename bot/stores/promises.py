"""What friend owes: promised once, kept by one process, and closed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core.conversation import (
    ConversationKey,
    IncomingMessage,
    PendingReply,
    Person,
    ReplyState,
    Role,
)
from bot.core.ports import Accepted, Deed
from bot.errors import StoreFailed
from bot.stores.calls import Calls, reads, writes
from bot.stores.erasing import forget, put_behind
from bot.stores.owners import LEASE, is_gone
from bot.stores.queries import (
    CONVERSATION_KEY,
    OPEN,
    TO_DO,
    Place,
    add_reply,
    add_turn,
    end,
    enter,
    lock_reply,
    note_event,
    note_spoken,
    place_of,
    still_to_do,
    to_pending,
)
from bot.stores.schema import conversations, events, replies, turns


class Promises(Calls):
    """The part of the store that promises, and sees promises through."""

    @writes
    async def accept(
        self,
        connection: AsyncConnection,
        message: IncomingMessage,
        *,
        reply_key: str | None,
        words: str = "",
    ) -> Accepted | None:
        """Remember a message once, and with a `reply_key` promise a reply to it, or `words`."""
        conversation = message.conversation
        now = self._clock()
        if not await note_event(connection, conversation.platform, message.event_id, now):
            return None
        place = await enter(connection, conversation, now)
        turn_id = await add_turn(
            connection,
            place.id,
            Role.FRIEND if message.by_friend else Role.USER,
            message.text,
            [message.message_id],
            message.author,
            message.sent_at,
        )
        if message.by_friend:
            await note_spoken(connection, place.id)
        if reply_key is None:
            return Accepted(turn_id, None)
        reply = PendingReply(
            reply_key, conversation, message.author, turn_id, dict(message.address), now
        )
        if words:
            reply = _notice(reply, words)
        return Accepted(turn_id, await self._owe(connection, place, reply))

    @writes
    async def carry_out(
        self,
        connection: AsyncConnection,
        deed: Deed,
        message: IncomingMessage,
        *,
        reply_key: str,
        words: Callable[[int], str],
    ) -> PendingReply | None:
        """Do once what a message asks for, and promise to say so."""
        conversation, author = message.conversation, message.author
        now = self._clock()
        if not await note_event(connection, conversation.platform, message.event_id, now):
            return None
        taken = 0
        if deed is Deed.FORGET:
            taken = await forget(connection, conversation.platform, author.id)
        place = await enter(connection, conversation, now)
        if deed is Deed.RESET:
            taken = await put_behind(connection, conversation)
        owed = PendingReply(reply_key, conversation, author, None, dict(message.address), now)
        return await self._owe(connection, place, _notice(owed, words(taken)))

    @writes
    async def promise(
        self,
        connection: AsyncConnection,
        conversation: ConversationKey,
        turn_id: int,
        *,
        reply_key: str,
        address: Mapping[str, str],
        author: Person,
        event_id: str | None = None,
    ) -> PendingReply | None:
        """Promise a (further) reply to a message already stored, once an event."""
        now = self._clock()
        if event_id is not None and not await note_event(
            connection, conversation.platform, event_id, now
        ):
            return None
        place = await enter(connection, conversation, now)
        if not await connection.scalar(select(exists().where(turns.c.id == turn_id))):
            raise StoreFailed("The message to answer is no longer in the history.")
        reply = PendingReply(reply_key, conversation, author, turn_id, dict(address), now)
        return await self._owe(connection, place, reply)

    @reads
    async def was_promised(self, connection: AsyncConnection, turn_id: int) -> bool:
        """Whether a reply to this turn was ever promised, whatever became of it."""
        promised = exists().where(replies.c.turn_id == turn_id)
        return bool(await connection.scalar(select(promised)))

    @writes
    async def first_sight(self, connection: AsyncConnection, platform: str, event_id: str) -> bool:
        """Note an event for which nothing is to be done; False if it was known."""
        return await note_event(connection, platform, event_id, self._clock())

    @reads
    async def is_known(self, connection: AsyncConnection, platform: str, event_id: str) -> bool:
        """Whether an event was accepted, or what it asked for was done."""
        noted = exists().where(events.c.platform == platform, events.c.event_id == event_id)
        return bool(await connection.scalar(select(noted)))

    # -- whose it is to keep them -----------------------------------------------------------------

    @writes
    async def owed(
        self, connection: AsyncConnection, conversation: ConversationKey
    ) -> Sequence[PendingReply] | None:
        """What is to be done in a conversation, oldest first; None if another process owns it."""
        place = await place_of(connection, conversation)
        if place is None:
            return []
        found = await self._to_do(connection, replies.c.conversation_id == place.id)
        if found and not await self._own(connection, place):
            return None
        return found

    async def claim(self, platform: str, *, not_before: datetime) -> Sequence[PendingReply]:
        """What is to be done on a platform where no other process is at it, oldest first."""
        if not await self._is_anything_owed(platform):  # most of the time; spares a write
            return []
        return await self._claim(platform, not_before)

    @reads
    async def _is_anything_owed(self, connection: AsyncConnection, platform: str) -> bool:
        owing = (
            select(replies.c.id)
            .join(conversations, conversations.c.id == replies.c.conversation_id)
            .where(conversations.c.platform == platform, replies.c.state.in_(TO_DO))
        )
        return bool(await connection.scalar(select(owing.exists())))

    @writes
    async def _claim(
        self, connection: AsyncConnection, platform: str, not_before: datetime
    ) -> Sequence[PendingReply]:
        here = select(conversations.c.id).where(conversations.c.platform == platform)
        old = replies.c.conversation_id.in_(here) & (replies.c.created_at < not_before)
        await end(connection, old, ReplyState.FAILED)
        owing = select(replies.c.conversation_id).where(replies.c.state.in_(TO_DO))
        found = await connection.execute(
            select(conversations.c.id, conversations.c.owner, conversations.c.owned_until)
            .where(conversations.c.platform == platform, conversations.c.id.in_(owing))
            .order_by(conversations.c.id)
            .with_for_update(skip_locked=True)
        )
        ours = [row.id for row in found if await self._own(connection, Place(*row))]
        return await self._to_do(connection, replies.c.conversation_id.in_(ours))

    @writes
    async def renew(
        self, connection: AsyncConnection, keys: Iterable[ConversationKey]
    ) -> Sequence[ConversationKey]:
        """Stay the owner of these; return those that another process has taken over."""
        await connection.execute(
            update(conversations)
            .where(conversations.c.owner == self._owner)
            .values(owned_until=self._clock() + LEASE)
        )
        lost = []
        for key in keys:
            place = await place_of(connection, key)
            if place is not None and place.owner not in {None, self._owner}:
                owing = replies.c.conversation_id == place.id
                if await self._to_do(connection, owing) and not await self._own(connection, place):
                    lost.append(key)
        return lost

    @writes
    async def _release(self, connection: AsyncConnection) -> None:
        await connection.execute(
            update(conversations)
            .where(conversations.c.owner == self._owner)
            .values(owner=None, owned_until=None)
        )

    # -- keeping them -----------------------------------------------------------------------------

    @writes
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
        place = await lock_reply(connection, first)
        if place is None or not await self._own(connection, place):
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
            burst = replies.c.key.in_(others)
            await connection.execute(update(replies).where(burst).values(carried_by=first))
            await end(connection, burst, ReplyState.DONE)
        return True

    @writes
    async def finish(
        self, connection: AsyncConnection, key: str, message_ids: Sequence[str]
    ) -> frozenset[str]:
        """The words are posted: remember them as friend's turn (unless an apology).

        A second call, or a call after the reply was cancelled, changes nothing.
        """
        place = await lock_reply(connection, key)
        if place is None:
            return frozenset()
        reply = (
            await connection.execute(
                select(replies, turns.c.person_id, turns.c.person_name)
                .outerjoin(turns, turns.c.id == replies.c.turn_id)
                .where(replies.c.key == key, replies.c.state.in_(OPEN))
            )
        ).one_or_none()
        if reply is not None:
            await end(connection, replies.c.key == key, ReplyState.DONE)
            await note_spoken(connection, place.id)
            if reply.turn_id is not None and reply.parts and not reply.is_apology:
                answers = (turns.c.answers == reply.turn_id) & (turns.c.role == Role.FRIEND)
                await connection.execute(update(turns).where(answers).values(is_dropped=True))
                # To whom friend speaks: so that forgetting a person finds what was said to them.
                await add_turn(
                    connection,
                    place.id,
                    Role.FRIEND,
                    "\n".join(reply.parts),
                    message_ids,
                    Person(reply.person_id, reply.person_name),
                    self._clock(),
                    answers=reply.turn_id,
                )
        return await still_to_do(connection, place.id)

    @writes
    async def close_reply(
        self, connection: AsyncConnection, key: str, state: ReplyState
    ) -> frozenset[str]:
        """End a promise without words: FAILED, CANCELLED, or WITHDRAWING for a draft's sake."""
        place = await lock_reply(connection, key)
        if place is None:
            return frozenset()
        await end(connection, replies.c.key == key, state)
        return await still_to_do(connection, place.id)

    @writes
    async def close_withdrawn(
        self, connection: AsyncConnection, conversation: ConversationKey
    ) -> None:
        """No draft is left of what was cancelled here; does nothing where another process owns."""
        place = await place_of(connection, conversation)
        if place is not None and place.owner in {None, self._owner}:
            withdrawn = replies.c.state == ReplyState.WITHDRAWING
            await end(
                connection,
                withdrawn & (replies.c.conversation_id == place.id),
                ReplyState.CANCELLED,
            )

    @writes
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
        wanted = (conversations.c.platform == platform) & replies.c.state.in_(OPEN)
        return await self._to_do(connection, wanted)

    async def _owe(
        self, connection: AsyncConnection, place: Place, reply: PendingReply
    ) -> PendingReply:
        """Write a promise down, and own the conversation if nobody else keeps promises there."""
        before = await still_to_do(connection, place.id)
        is_ours = (
            await self._own(connection, place) if before else await self._take(connection, place)
        )
        await add_reply(connection, place.id, reply)
        return replace(reply, is_alone=is_ours and not before)

    async def _own(self, connection: AsyncConnection, place: Place) -> bool:
        """Be the owner of a locked conversation, unless another process is and lives."""
        others = place.owner not in {None, self._owner}
        if others and place.owned_until and place.owned_until > self._clock():
            assert place.owner is not None
            if not is_gone(place.owner):
                return False
        return await self._take(connection, place)

    async def _take(self, connection: AsyncConnection, place: Place) -> bool:
        now = self._clock()
        is_fresh = place.owned_until is not None and place.owned_until > now + LEASE / 2
        if place.owner != self._owner or not is_fresh:
            await connection.execute(
                update(conversations)
                .where(conversations.c.id == place.id)
                .values(owner=self._owner, owned_until=now + LEASE)
            )
        return True

    @staticmethod
    async def _to_do(
        connection: AsyncConnection, which: ColumnElement[bool]
    ) -> Sequence[PendingReply]:
        found = await connection.execute(
            select(replies, *CONVERSATION_KEY)
            .join(conversations, conversations.c.id == replies.c.conversation_id)
            .where(which, replies.c.state.in_(TO_DO))
            .order_by(replies.c.id)
        )
        return [to_pending(row) for row in found]


def _notice(reply: PendingReply, words: str) -> PendingReply:
    """The same promise, of words that are known already."""
    return replace(reply, turn_id=None, state=ReplyState.POSTING, parts=(words,), is_apology=True)
