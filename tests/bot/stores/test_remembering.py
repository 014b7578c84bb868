"""What is accepted is in the window, once, in order, as it was said."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from bot.core.conversation import Person, ReplyState, Role, Turn
from bot.errors import StoreFailed
from bot.stores import SqlStore, open_store
from tests.bot.stores.conftest import Clock
from tests.bot.stores.people import ANN, BOB, KITCHEN, LOBBY, SLACK, THREAD, Chat, message


async def test_an_accepted_message_is_in_the_window(store: SqlStore, clock: Clock) -> None:
    accepted = await store.accept(message("hi", message_id="m1", sent_at=clock.now), reply_key=None)
    assert accepted is not None
    assert accepted.reply is None
    assert await store.window(LOBBY) == [Turn(accepted.turn_id, Role.USER, "hi", "m1", ANN)]


async def test_a_promise_carries_what_a_later_process_needs(store: SqlStore, clock: Clock) -> None:
    said = message("hi", sent_at=clock.now - timedelta(minutes=1))
    accepted = await store.accept(said, reply_key="key1")
    assert accepted is not None
    reply = accepted.reply
    assert reply is not None
    assert (reply.key, reply.conversation, reply.author) == ("key1", LOBBY, ANN)
    assert (reply.turn_id, reply.address) == (accepted.turn_id, said.address)
    assert (reply.created_at, reply.state, reply.parts) == (clock.now, ReplyState.QUEUED, ())
    assert await store.unfinished("discord", not_before=clock.now) == [reply]


async def test_an_event_is_accepted_once(store: SqlStore, clock: Clock) -> None:
    said = message("hi", sent_at=clock.now)
    assert await store.accept(said, reply_key="key1")
    assert await store.accept(said, reply_key="key2") is None
    assert len(await store.window(LOBBY)) == 1
    assert len(await store.unfinished("discord", not_before=clock.now)) == 1


async def test_an_event_id_counts_for_its_platform_only(store: SqlStore, clock: Clock) -> None:
    assert await store.accept(message(event_id="e", sent_at=clock.now), reply_key=None)
    elsewhere = message(event_id="e", where=SLACK, sent_at=clock.now)
    assert await store.accept(elsewhere, reply_key=None)


async def test_first_sight_shares_its_memory_with_accept(store: SqlStore, clock: Clock) -> None:
    assert await store.first_sight("discord", "e1")
    assert not await store.first_sight("discord", "e1")
    assert await store.first_sight("slack", "e1")
    assert await store.accept(message(event_id="e1", sent_at=clock.now), reply_key=None) is None
    assert await store.accept(message(event_id="e2", sent_at=clock.now), reply_key=None)
    assert not await store.first_sight("discord", "e2")


async def test_of_many_deliveries_at_once_one_is_accepted(store: SqlStore, clock: Clock) -> None:
    said = message("hi", sent_at=clock.now)
    answers = await asyncio.gather(*(store.accept(said, reply_key=f"key{n}") for n in range(12)))
    assert sum(answer is not None for answer in answers) == 1
    assert len(await store.unfinished("discord", not_before=clock.now)) == 1


async def test_conversations_do_not_mix(chat: Chat) -> None:
    await chat.hear("in the lobby")
    await chat.hear("in the kitchen", where=KITCHEN)
    await chat.hear("in a thread of the lobby", where=THREAD)
    await chat.hear("on Slack", where=SLACK)
    assert await chat.texts(LOBBY) == ["in the lobby"]
    assert await chat.texts(KITCHEN) == ["in the kitchen"]
    assert await chat.texts(THREAD) == ["in a thread of the lobby"]
    assert await chat.texts(SLACK) == ["on Slack"]


async def test_turn_ids_grow_in_the_order_of_acceptance(store: SqlStore, clock: Clock) -> None:
    said = [message(str(n), sent_at=clock.now - timedelta(seconds=n)) for n in range(30)]
    ids = []
    for one in said:
        accepted = await store.accept(one, reply_key=None)
        assert accepted
        ids.append(accepted.turn_id)
    assert ids == sorted(set(ids))
    assert [turn.text for turn in await store.window(LOBBY)] == [str(n) for n in range(30)]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("", ""),
        ("x" * 100_000, "x" * 100_000),
        ("👩‍👩‍👧 🇩🇪 e\u0301 \U0001f3fb", "👩‍👩‍👧 🇩🇪 e\u0301 \U0001f3fb"),
        ("\u202eمرحبا\u202c שלום", "\u202eمرحبا\u202c שלום"),
        ("'; DROP TABLE turns; --", "'; DROP TABLE turns; --"),
        ("a\x00b\ud83dc\r\n\t", "a\ufffdb\ufffdc\r\n\t"),
    ],
    ids=["empty", "long", "emoji", "right-to-left", "quotes", "unstorable"],
)
async def test_text_comes_back_as_it_was_said(chat: Chat, said: str, kept: str) -> None:
    await chat.hear(said, by=Person("U9", said[:100]))
    (turn,) = await chat.turns()
    assert (turn.text, turn.speaker) == (kept, Person("U9", kept[:100]))


async def test_an_address_comes_back_exactly(store: SqlStore, clock: Clock) -> None:
    said = message(sent_at=clock.now)
    strange = {"a": "\x00 \ud83d 👋", "": "'\"\\"}
    turn = await store.accept(said, reply_key=None)
    assert turn
    await store.promise(LOBBY, turn.turn_id, reply_key="again", address=strange, author=BOB)
    (owed,) = await store.unfinished("discord", not_before=clock.now)
    assert (owed.address, owed.author, owed.turn_id) == (strange, BOB, turn.turn_id)


async def test_a_reply_cannot_be_promised_to_an_erased_message(chat: Chat) -> None:
    turn = await chat.hear("never mind", message_id="m1")
    await chat.store.delete("discord", "lobby", "m1")
    with pytest.raises(StoreFailed, match="no longer in the history"):
        await chat.store.promise(LOBBY, turn.turn_id, reply_key="k", address={}, author=ANN)


async def test_everything_is_there_after_opening_again(url: str, clock: Clock) -> None:
    store = await open_store(url, clock=clock)
    said = message("hi", sent_at=clock.now)
    await store.accept(said, reply_key="key1")
    await store.begin_posting(["key1"], ["one", "two"], is_apology=True)
    before = (
        await store.window(LOBBY),
        await store.unfinished("discord", not_before=clock.now),
    )
    await store.close()
    store = await open_store(url, clock=clock)
    assert await store.accept(said, reply_key="key2") is None
    assert before == (
        await store.window(LOBBY),
        await store.unfinished("discord", not_before=clock.now),
    )
    await store.close()


async def test_the_window_moves_forward_only(chat: Chat) -> None:
    first, second, third = [await chat.hear(text) for text in ("one", "two", "three")]
    await chat.store.move_window(LOBBY, second.turn_id)
    assert await chat.texts() == ["two", "three"]
    await chat.store.move_window(LOBBY, first.turn_id)
    assert await chat.texts() == ["two", "three"]
    await chat.store.move_window(LOBBY, third.turn_id)
    assert await chat.texts() == ["three"]
    assert await chat.texts(KITCHEN) == []


async def test_the_window_may_start_with_a_reply(chat: Chat) -> None:
    await chat.hear("one", owed="key1")
    await chat.hear("two")
    await chat.answer("key1", "reply to one")
    reply = (await chat.turns())[1]
    await chat.store.move_window(LOBBY, reply.id)
    assert await chat.texts() == ["reply to one", "two"]


async def test_a_cancelled_call_leaves_the_store_usable(store: SqlStore, clock: Clock) -> None:
    for pause in range(12):
        said = message("hi", sent_at=clock.now)
        call = asyncio.create_task(store.accept(said, reply_key=None))
        await asyncio.sleep(pause / 2000)
        call.cancel()
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        known = await store.accept(said, reply_key=None) is None
        assert known or isinstance(outcome, asyncio.CancelledError)
    assert len(await store.window(LOBBY)) == 12


async def test_the_places_people_spoke_in_last_come_first(chat: Chat, clock: Clock) -> None:
    for where in (LOBBY, THREAD, SLACK, KITCHEN, LOBBY):
        clock.now += timedelta(seconds=1)
        await chat.hear("hi", where=where)
    assert await chat.store.recent("discord", limit=5) == [LOBBY, KITCHEN, THREAD]
    assert await chat.store.recent("discord", limit=2) == [LOBBY, KITCHEN]
    assert await chat.store.recent("terminal", limit=5) == []
