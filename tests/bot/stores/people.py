"""Messages for tests of the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

from bot.core.conversation import ConversationKey, IncomingMessage, Person, Turn
from bot.core.ports import Accepted, Store

ANN, BOB = Person("U1", "Ann"), Person("U2", "Bob")
LOBBY = ConversationKey("discord", "guild", "lobby")
KITCHEN = ConversationKey("discord", "guild", "kitchen")
THREAD = ConversationKey("discord", "guild", "lobby", "thread")
SLACK = ConversationKey("slack", "team", "lobby")

_numbers = count(1)


def message(
    text: str = "hello",
    *,
    by: Person = ANN,
    where: ConversationKey = LOBBY,
    sent_at: datetime,
    message_id: str | None = None,
    event_id: str | None = None,
) -> IncomingMessage:
    number = next(_numbers)
    return IncomingMessage(
        event_id=event_id or f"event-{number}",
        conversation=where,
        message_id=message_id or f"message-{number}",
        author=by,
        text=text,
        sent_at=sent_at,
        address={"channel": where.channel, "message": message_id or f"message-{number}"},
    )


@dataclass
class Chat:
    """Says things to a store the way the core does."""

    store: Store
    now: datetime

    async def hear(
        self,
        text: str,
        *,
        by: Person = ANN,
        where: ConversationKey = LOBBY,
        owed: str | None = None,
        message_id: str | None = None,
        hours_ago: float = 0,
    ) -> Accepted:
        """Accept a message; with `owed`, promise a reply under that key."""
        accepted = await self.store.accept(
            message(
                text,
                by=by,
                where=where,
                sent_at=self.now - timedelta(hours=hours_ago),
                message_id=message_id,
            ),
            reply_key=owed,
        )
        assert accepted is not None
        return accepted

    async def answer(self, key: str, *parts: str) -> None:
        assert await self.store.begin_posting([key], parts, is_apology=False)
        await self.store.finish(key, [f"{key}-{number}" for number in range(len(parts))])

    async def talk(
        self, question: str, reply: str, *, by: Person = ANN, where: ConversationKey = LOBBY
    ) -> Accepted:
        """A question and its answer."""
        key = f"key{next(_numbers)}"
        accepted = await self.hear(question, by=by, where=where, owed=key)
        await self.answer(key, reply)
        return accepted

    async def texts(self, where: ConversationKey = LOBBY) -> list[str]:
        return [turn.text for turn in await self.turns(where)]

    async def turns(self, where: ConversationKey = LOBBY) -> list[Turn]:
        return list(await self.store.window(where))
