"""Any sequence of calls leaves the store as it leaves a model made of plain lists."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core.conversation import (
    ConversationKey,
    IncomingMessage,
    PendingReply,
    Person,
    ReplyState,
    Turn,
)
from bot.stores import SqlStore, open_store
from bot.stores.schema import metadata
from tests.bot.stores.conftest import Clock
from tests.bot.stores.model import Model
from tests.bot.stores.people import ANN, BOB, KITCHEN, LOBBY, SLACK, THREAD

T = TypeVar("T")
PLACES = (LOBBY, KITCHEN, THREAD, SLACK)

places = st.sampled_from(PLACES)
people = st.sampled_from([ANN, BOB])
platforms = st.sampled_from(["discord", "slack"])
channels = st.sampled_from(["lobby", "kitchen", "thread"])
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
index = st.integers(0, 1000)


class StoreMachine(RuleBasedStateMachine):
    runner: ClassVar[asyncio.Runner]
    store: ClassVar[SqlStore]
    clock: ClassVar[Clock]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.number = 0
        self.message_ids = ["m0"]
        self.keys: list[str] = []
        self.run(self.store._database.write(empty))

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def new(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}{self.number}"

    def window(self, where: ConversationKey) -> list[Turn]:
        return list(self.run(self.store.window(where)))

    # -- rules ----------------------------------------------------------------------------------

    @rule(minutes=st.sampled_from([1, 20, 60 * 7, 60 * 24 * 3]))
    def wait(self, minutes: int) -> None:
        self.clock.advance(minutes=minutes)

    @rule(where=places, by=people, text=texts, is_owed=st.booleans(), repeat=index, age=index)
    def accept(
        self,
        where: ConversationKey,
        by: Person,
        text: str,
        is_owed: bool,
        repeat: int,
        age: int,
    ) -> None:
        event_id = f"e{repeat % self.number}" if self.number and repeat < 100 else self.new("e")
        message_id = self.new("m")
        said = IncomingMessage(
            event_id,
            where,
            message_id,
            by,
            text,
            self.clock() - timedelta(minutes=age),
            {"message": message_id},
        )
        key = self.new("k") if is_owed else None
        accepted = self.run(self.store.accept(said, reply_key=key))
        is_new = self.model.first_sight(where.platform, event_id, self.clock())
        assert (accepted is not None) == is_new
        if accepted is None:
            return
        assert all(held.turn.id < accepted.turn_id for held in self.model.turns)
        self.model.accept(said, accepted.turn_id, self.clock())
        self.message_ids.append(message_id)
        if key is None:
            assert accepted.reply is None
        else:
            reply = PendingReply(key, where, by, accepted.turn_id, said.address, self.clock())
            assert accepted.reply == reply
            self.model.promise(reply)
            self.keys.append(key)

    @rule(platform=platforms, repeat=index)
    def first_sight(self, platform: str, repeat: int) -> None:
        event_id = f"e{repeat % (self.number + 2)}"
        assert self.run(self.store.first_sight(platform, event_id)) == self.model.first_sight(
            platform, event_id, self.clock()
        )

    @precondition(lambda self: self.model.turns)
    @rule(which=index, by=people)
    def promise(self, which: int, by: Person) -> None:
        held = self.model.turns[which % len(self.model.turns)]
        reply = PendingReply(
            self.new("k"), held.where, by, held.turn.id, {"for": "again"}, self.clock()
        )
        assert reply == self.run(
            self.store.promise(
                held.where,
                held.turn.id,
                reply_key=reply.key,
                address=reply.address,
                author=by,
            )
        )
        self.model.promise(reply)
        self.keys.append(reply.key)

    @precondition(lambda self: self.model.turns)
    @rule(which=index)
    def move_window(self, which: int) -> None:
        held = self.model.turns[which % len(self.model.turns)]
        self.run(self.store.move_window(held.where, held.turn.id))
        self.model.move_window(held.where, held.turn.id)

    @precondition(lambda self: self.keys)
    @rule(
        which=st.lists(index, min_size=1, max_size=3),
        parts=st.lists(texts, min_size=1, max_size=3),
        is_apology=st.booleans(),
    )
    def begin_posting(self, which: list[int], parts: list[str], is_apology: bool) -> None:
        keys = list(dict.fromkeys(self.keys[-1 - number % len(self.keys)] for number in which))
        assert self.run(
            self.store.begin_posting(keys, parts, is_apology=is_apology)
        ) == self.model.begin_posting(keys, parts, is_apology=is_apology)

    @precondition(lambda self: self.keys)
    @rule(which=index, parts=st.lists(texts, min_size=1, max_size=2))
    def begin_and_finish(self, which: int, parts: list[str]) -> None:
        self.begin_posting([which], parts, is_apology=False)
        self.finish(which)

    @precondition(lambda self: self.keys)
    @rule(which=index)
    def finish(self, which: int) -> None:
        key = self.keys[-1 - which % len(self.keys)]
        reply = self.model.open_reply(key)
        message_ids = [self.new("r"), self.new("r")]
        before = self.all_turn_ids()
        self.run(self.store.finish(key, message_ids))
        made = self.all_turn_ids() - before
        assert len(made) <= 1
        assert all(turn_id > max(before, default=0) for turn_id in made)
        self.model.finish(key, message_ids, made.pop() if made else None, self.clock())
        if reply is not None:
            self.message_ids += message_ids

    @precondition(lambda self: self.keys)
    @rule(which=index, state=st.sampled_from([ReplyState.FAILED, ReplyState.CANCELLED]))
    def close_reply(self, which: int, state: ReplyState) -> None:
        key = self.keys[which % len(self.keys)]
        self.run(self.store.close_reply(key, state))
        self.model.set(key, state)

    @rule(platform=platforms, minutes=st.sampled_from([5, 60 * 5, 60 * 24 * 9]))
    def unfinished(self, platform: str, minutes: int) -> None:
        not_before = self.clock() - timedelta(minutes=minutes)
        assert self.run(
            self.store.unfinished(platform, not_before=not_before)
        ) == self.model.unfinished(platform, not_before)

    @precondition(lambda self: self.model.turns)
    @rule(which=index)
    def drop_turn(self, which: int) -> None:
        turn_id = self.model.turns[which % len(self.model.turns)].turn.id
        self.run(self.store.drop_turn(turn_id))
        self.model.drop_turn(turn_id)

    @rule(platform=platforms, channel=channels, which=index, text=texts)
    def edit(self, platform: str, channel: str, which: int, text: str) -> None:
        message_id = self.message_ids[which % len(self.message_ids)]
        self.run(self.store.edit(platform, channel, message_id, text))
        self.model.edit(platform, channel, message_id, text)

    @rule(platform=platforms, channel=channels, which=index)
    def delete(self, platform: str, channel: str, which: int) -> None:
        message_id = self.message_ids[which % len(self.message_ids)]
        self.run(self.store.delete(platform, channel, message_id))
        self.model.delete(platform, channel, message_id)

    @rule(where=places)
    def reset(self, where: ConversationKey) -> None:
        assert self.run(self.store.reset(where)) == self.model.reset(where)

    @rule(where=places)
    def reset_channel(self, where: ConversationKey) -> None:
        dropped = self.run(self.store.reset_channel(where))
        assert dropped == self.model.reset_channel(where)

    @rule(platform=platforms, person=people)
    def forget_person(self, platform: str, person: Person) -> None:
        forgotten = self.run(self.store.forget_person(platform, person.id))
        assert forgotten == self.model.forget_person(platform, person)

    @rule(hours=st.sampled_from([1, 12, 72]))
    def expire(self, hours: int) -> None:
        before = self.clock() - timedelta(hours=hours)
        erased = self.run(self.store.expire(before=before))
        assert erased == self.model.expire(before, self.clock())

    @rule(where=places)
    def is_friend_thread(self, where: ConversationKey) -> None:
        takes_part = self.run(self.store.is_friend_thread(where))
        assert takes_part == self.model.is_friend_thread(where)

    # -- what must always hold ------------------------------------------------------------------

    @invariant()
    def windows_agree(self) -> None:
        for where in PLACES:
            assert self.window(where) == self.model.window(where)

    def teardown(self) -> None:
        for platform in ("discord", "slack"):
            self.unfinished(platform, 60 * 24 * 365)

    def all_turn_ids(self) -> set[int]:
        async def read(connection: AsyncConnection) -> set[int]:
            rows = await connection.exec_driver_sql("SELECT id FROM turns")
            return set(rows.scalars())

        return self.run(self.store._database.read(read))


async def empty(connection: AsyncConnection) -> None:
    for table in reversed(metadata.sorted_tables):
        await connection.execute(table.delete())


def test_the_store_does_what_the_model_does(url: str) -> None:
    with asyncio.Runner() as runner:
        clock = Clock()
        store = runner.run(open_store(url, clock=clock))

        class Machine(StoreMachine):
            pass

        Machine.runner, Machine.store, Machine.clock = runner, store, clock
        run_state_machine_as_test(
            Machine,
            settings=settings(
                phases=[__import__("hypothesis").Phase.generate],
                max_examples=8,
                stateful_step_count=25,
                deadline=None,
            ),
        )
        runner.run(store.close())
