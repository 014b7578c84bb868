"""The store of `bot.core.ports`, in SQL."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core.conversation import ConversationKey, Turn
from bot.errors import StoreFailed
from bot.stores.calls import reads, writes
from bot.stores.erasing import Erasing
from bot.stores.promises import Promises
from bot.stores.queries import (
    CONVERSATION_KEY,
    OPEN,
    PLACE,
    in_window,
    is_conversation,
    start_window,
    to_turn,
)
from bot.stores.schema import conversations, replies, turn_messages, turns

_log = structlog.get_logger(__name__)

MOST_TURNS = 1000
"""Turns of a window that are read at most; far more than a model is given."""


class SqlStore(Promises, Erasing):
    """Friend's memory in SQLite or PostgreSQL; see `bot.core.ports.Store`. Made by `open_store`.

    Every write to a conversation first locks its row. On PostgreSQL that makes turn ids grow in
    the order in which transactions commit, as they do on SQLite, which has one writer at a time.
    """

    @reads
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

    @writes
    async def move_window(
        self, connection: AsyncConnection, conversation: ConversationKey, first_turn_id: int
    ) -> None:
        """Let the window start at this turn from now on; it never moves back."""
        place = await connection.scalar(select(PLACE).where(turns.c.id == first_turn_id))
        await start_window(connection, conversation, place or 2 * first_turn_id)

    @reads
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

    @reads
    async def is_friend_thread(
        self, connection: AsyncConnection, conversation: ConversationKey
    ) -> bool:
        """Whether friend has said anything here, its own sentences included, or is about to."""
        owing = exists().where(
            replies.c.conversation_id == conversations.c.id, replies.c.state.in_(OPEN)
        )
        takes_part = exists().where(
            is_conversation(conversation), conversations.c.has_spoken | owing
        )
        return bool(await connection.scalar(select(takes_part)))

    async def close(self) -> None:
        """Leave what is owed to others, and release the database."""
        try:
            await self._release()
        except StoreFailed as error:
            _log.warning("store.not_released", error=str(error))
        await self._database.close()
