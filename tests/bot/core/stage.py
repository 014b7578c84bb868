"""A platform in memory, and a friend on it with the real store and the real client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from bot.core.conversation import ConversationKey, IncomingMessage, Person
from bot.core.friend import Friend
from bot.core.keeper import Keeper
from bot.core.ports import ReplyTimes
from bot.core.queue import ConversationQueues
from bot.core.responder import Responder
from bot.core.waking import Waker
from bot.errors import DeliveryFailed
from bot.settings import AccessSettings, ReplySettings, TriggerSettings
from bot.stores import SqlStore, open_store
from inference_client import ClientSettings, InferenceClient
from tests.fakes.model import FakeModel

ANN, BOB = Person("ann", "Ann"), Person("bob", "Bob")


class Counts:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.received_outcomes: list[str] = []
        self.replied_outcomes: list[tuple[str, ReplyTimes]] = []

    def received(self, platform: str, outcome: str) -> None:
        self.received_outcomes.append(outcome)

    def replied(self, platform: str, outcome: str, times: ReplyTimes) -> None:
        self.replied_outcomes.append((outcome, times))


@dataclass
class Posted:
    channel: str
    answers: str
    text: str
    key: str


@dataclass
class Stage:
    """What is posted, and the faults of posting."""

    name: str = "stage"
    posts: list[Posted] = field(default_factory=list)
    visible: dict[str, str] = field(default_factory=dict)
    withdrawn: list[str] = field(default_factory=list)
    working: list[str] = field(default_factory=list)
    refusals: list[DeliveryFailed] = field(default_factory=list)
    shows_drafts: bool = False
    max_characters: int = 2000

    async def run(self, friend: Friend) -> None:
        raise NotImplementedError

    def outlet(
        self, address: Mapping[str, str], reply_key: str, *, recovering: bool
    ) -> StageOutlet:
        return StageOutlet(self, address, reply_key, recovering)

    def texts(self, channel: str = "general") -> list[str]:
        return [post.text for post in self.posts if post.channel == channel]


class StageOutlet:
    own_names = frozenset({"Marvin"})

    def __init__(
        self, stage: Stage, address: Mapping[str, str], key: str, recovering: bool
    ) -> None:
        self._stage, self._address, self._key = stage, address, key
        self._recovering = recovering
        self.max_characters = stage.max_characters

    def characters(self, text: str) -> int:
        return len(text)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        self._stage.working.append(self._key)
        try:
            yield
        finally:
            self._stage.working.remove(self._key)

    async def show(self, text: str) -> bool:
        if self._stage.shows_drafts:
            self._stage.visible[self._key] = text
        return self._stage.shows_drafts

    async def deliver(self, parts: Sequence[str]) -> Sequence[str]:
        if self._stage.refusals:
            raise self._stage.refusals.pop(0)
        self._stage.visible.pop(self._key, None)
        done = [post for post in self._stage.posts if post.key == self._key]
        if done and self._recovering:
            parts = parts[len(done) :]
        channel, answers = self._address["channel"], self._address["message"]
        self._stage.posts += [Posted(channel, answers, part, self._key) for part in parts]
        return [f"{self._key}-{number}" for number in range(len(parts))]

    async def withdraw(self) -> None:
        if self._stage.visible.pop(self._key, None) is not None:
            self._stage.withdrawn.append(self._key)


@dataclass
class Scene:
    """Everything a test touches; `say` speaks as a person and returns once it is accepted."""

    stage: Stage
    friend: Friend
    queues: ConversationQueues
    store: SqlStore
    model: FakeModel
    counts: Counts
    numbers: Any = field(default_factory=lambda: count(1))

    async def say(self, text: str, **facts: Any) -> IncomingMessage:
        message = self.message(text, **facts)
        await self.friend.on_message(message)
        return message

    def message(
        self,
        text: str,
        *,
        by: Person = ANN,
        channel: str = "general",
        number: int | None = None,
        mention: bool = True,
        **facts: Any,
    ) -> IncomingMessage:
        message_id = str(number if number is not None else next(self.numbers))
        return IncomingMessage(
            event_id=message_id,
            conversation=ConversationKey(self.stage.name, "space", channel),
            message_id=message_id,
            author=by,
            text=text,
            sent_at=datetime.now(UTC),
            address={"channel": channel, "message": message_id},
            mentions_friend=mention,
            **facts,
        )

    async def quiet(self) -> None:
        """Wait until everything owed has been said."""
        async with asyncio.timeout(30):
            await self.queues.idle()
            await self.friend.settle(10)

    def prompts(self) -> list[list[tuple[str, str]]]:
        """What the model was asked, a list of (role, content) a request."""
        return [
            [(message["role"], message["content"]) for message in request["messages"]]
            for request in self.model.requests
        ]


@asynccontextmanager
async def scene(
    folder: Path,
    model: FakeModel,
    *,
    stage: Stage | None = None,
    burst_seconds: float = 0.0,
    asleep_after: float = 0.0,
    **settings: Any,
) -> AsyncIterator[Scene]:
    """A friend on a stage; keyword settings go to the section that knows them."""
    stage, counts = stage or Stage(), Counts()
    store = await open_store(f"sqlite+aiosqlite:///{folder / 'history.sqlite3'}")
    client_settings = ClientSettings(
        base_url=model.url,
        model="fake-model",
        attempts=2,
        backoff_initial=0.01,
        backoff_max=0.02,
        first_token_timeout=20,
    )

    def pick(section: Any) -> Any:
        return section(**{k: v for k, v in settings.items() if k in section.model_fields})

    async with InferenceClient(client_settings) as client:
        waker = Waker(client.warm, asleep_after=asleep_after)
        responder = Responder(
            store=store,
            model=client,
            waker=waker,
            platforms={stage.name: stage},
            settings=pick(ReplySettings),
            observer=counts,
            answer_within=timedelta(minutes=15),
        )
        queues = ConversationQueues(
            responder.answer, burst=timedelta(seconds=burst_seconds), owed=store.owed
        )
        keeper = Keeper(store, queues, answer_within=timedelta(minutes=15))
        friend = Friend(
            store=store,
            queues=queues,
            keeper=keeper,
            waker=waker,
            platforms={stage.name: stage},
            triggers=pick(TriggerSettings),
            access=pick(AccessSettings),
            observer=counts,
            answer_within=timedelta(minutes=15),
        )
        try:
            yield Scene(stage, friend, queues, store, model, counts)
        finally:
            await queues.drain(0)
            await waker.close()
            await store.close()
