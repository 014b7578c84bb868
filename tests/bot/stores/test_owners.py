"""A conversation in which something is owed has one owner, and another when that one is dead."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from bot.core.conversation import ReplyState
from bot.core.ports import Deed
from bot.stores import SqlStore, open_store
from bot.stores.owners import LEASE, is_gone, this_owner
from tests.bot.stores.conftest import Clock
from tests.bot.stores.people import ANN, KITCHEN, LOBBY, Chat, message


@pytest.fixture
async def theirs(url: str, store: SqlStore, clock: Clock) -> AsyncIterator[SqlStore]:
    """The same history, as another process has it open."""
    opened = await open_store(url, clock=clock)
    yield opened
    await opened.close()


async def keys_to_do(store: SqlStore) -> list[str] | None:
    owed = await store.owed(LOBBY)
    return None if owed is None else [reply.key for reply in owed]


async def test_who_promises_first_owns_until_nothing_is_owed(
    store: SqlStore, theirs: SqlStore, chat: Chat, clock: Clock
) -> None:
    first = await chat.hear("one", owed="one")
    second = await Chat(theirs, clock.now).hear("two", owed="two")
    assert first.reply is not None
    assert second.reply is not None
    assert (first.reply.is_alone, second.reply.is_alone) == (True, False)
    assert await keys_to_do(theirs) is None
    assert not await theirs.begin_posting(["two"], ["x"], is_apology=False)
    assert await keys_to_do(store) == ["one", "two"]
    await store.begin_posting(["one"], ["1"], is_apology=False)
    assert await store.finish("one", ["m1"]) == {"two"}
    await chat.answer("two", "2")
    third = await Chat(theirs, clock.now).hear("three", owed="three")
    assert third.reply is not None
    assert third.reply.is_alone
    assert await keys_to_do(store) is None


async def test_a_lease_that_is_not_renewed_ends(
    store: SqlStore, theirs: SqlStore, chat: Chat, clock: Clock
) -> None:
    await chat.hear("one", owed="one")
    old = clock.now - timedelta(days=1)
    clock.advance(seconds=LEASE.total_seconds() - 1)
    assert await store.renew([LOBBY]) == []
    clock.advance(seconds=LEASE.total_seconds() - 1)
    assert await theirs.claim("discord", not_before=old) == []
    clock.advance(seconds=2)
    assert [reply.key for reply in await theirs.claim("discord", not_before=old)] == ["one"]
    assert await store.renew([LOBBY, KITCHEN]) == [LOBBY]
    assert not await store.begin_posting(["one"], ["x"], is_apology=False)
    assert await theirs.begin_posting(["one"], ["x"], is_apology=False)


async def test_who_leaves_in_good_order_leaves_it_at_once(
    url: str, theirs: SqlStore, clock: Clock
) -> None:
    leaving = await open_store(url, clock=clock)
    await Chat(leaving, clock.now).hear("one", owed="one")
    assert await keys_to_do(theirs) is None
    await leaving.close()
    assert await keys_to_do(theirs) == ["one"]


async def test_a_killed_process_of_this_machine_is_found_out_at_once(
    url: str, store: SqlStore, clock: Clock
) -> None:
    script = (
        "import asyncio, datetime, os, signal, sys\n"
        "from bot.stores import open_store\n"
        "from bot.core.conversation import ConversationKey, IncomingMessage, Person\n"
        "async def main():\n"
        "    now = datetime.datetime.now(datetime.UTC)\n"
        "    store = await open_store(sys.argv[1])\n"
        "    where = ConversationKey('discord', 'guild', 'lobby')\n"
        "    said = IncomingMessage('e', where, 'm', Person('U1', 'Ann'), 'hi', now)\n"
        "    await store.accept(said, reply_key='one')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, url)
    await process.wait()
    assert await keys_to_do(store) == ["one"]


def test_the_living_are_not_gone() -> None:
    assert not is_gone(this_owner())
    host, namespace, _, began, rest = this_owner().split("/")
    assert not is_gone(f"elsewhere/{namespace}/1/{began}/{rest}")
    if sys.platform == "linux":
        reused = "/".join((host, namespace, str(os.getpid()), "1", rest))
        assert is_gone(reused)


@pytest.mark.parametrize("deed", [Deed.NOTHING, Deed.RESET, Deed.FORGET])
async def test_note_deed_and_sentence_are_one(
    store: SqlStore, chat: Chat, clock: Clock, deed: Deed
) -> None:
    await chat.talk("hi", "hello")
    asked = message("do it", sent_at=clock.now)
    taken = {Deed.NOTHING: 0, Deed.RESET: 2, Deed.FORGET: 1}[deed]

    def breaks(count: int) -> str:
        raise RuntimeError("killed here")

    with pytest.raises(RuntimeError):
        await store.carry_out(deed, asked, reply_key="k", words=breaks)
    assert await chat.texts() == ["hi", "hello"]
    assert not await store.is_known("discord", asked.event_id)
    notice = await store.carry_out(deed, asked, reply_key="k", words=lambda n: f"took {n}")
    assert notice is not None
    assert notice.is_notice
    assert await store.owed(LOBBY) == [notice]
    assert notice.parts == (f"took {taken}",)
    assert await chat.texts() == (["hi", "hello"] if deed is Deed.NOTHING else [])
    assert await store.carry_out(deed, asked, reply_key="k2", words=str) is None
    assert await store.finish("k", ["m"]) == frozenset()
    assert await store.owed(LOBBY) == []


async def test_what_is_cancelled_is_withdrawn_first(
    store: SqlStore, chat: Chat, clock: Clock
) -> None:
    await chat.hear("one", owed="one")
    await chat.hear("two", owed="two", message_id="m2")
    await store.delete("discord", "lobby", "m2")
    await store.reset(LOBBY)
    owed = await store.owed(LOBBY)
    assert owed is not None
    assert [reply.state for reply in owed] == [ReplyState.WITHDRAWING] * 2
    await store.close_reply("two", ReplyState.CANCELLED)
    await store.close_withdrawn(LOBBY)
    assert await store.owed(LOBBY) == []


async def test_forgetting_leaves_no_name_on_what_is_still_to_be_withdrawn(
    store: SqlStore, chat: Chat, clock: Clock
) -> None:
    said = message("hi", sent_at=clock.now)
    await store.accept(said, reply_key="one")
    await store.promise(
        LOBBY, 1, reply_key="two", address={"user": ANN.id, "channel": "lobby"}, author=ANN
    )
    await store.forget_person("discord", ANN.id)
    owed = await store.owed(LOBBY)
    assert owed is not None
    assert {(reply.author.id, reply.author.name) for reply in owed} == {("", "")}
    assert owed[1].address == {"user": "", "channel": "lobby"}
