"""A promised reply is kept once: written, posted, remembered, or ended."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from bot.core.conversation import ReplyState, Role, Turn
from bot.stores import SqlStore
from tests.bot.stores.conftest import Clock
from tests.bot.stores.people import ANN, KITCHEN, LOBBY, SLACK, Chat


async def test_a_finished_reply_becomes_friends_turn(chat: Chat, clock: Clock) -> None:
    asked = await chat.hear("how are you?", owed="key1")
    assert await chat.store.begin_posting(["key1"], ["Fine,", "thanks."], is_apology=False)
    (owed,) = await chat.store.unfinished("discord", not_before=clock.now)
    assert (owed.state, owed.parts, owed.is_apology) == (
        ReplyState.POSTING,
        ("Fine,", "thanks."),
        False,
    )
    assert await chat.texts() == ["how are you?"]
    await chat.store.finish("key1", ["f1", "f2"])
    said = (await chat.turns())[1]
    assert said == Turn(said.id, Role.FRIEND, "Fine,\nthanks.", "f1", None, asked.turn_id)
    assert await chat.store.unfinished("discord", not_before=clock.now) == []


async def test_finishing_twice_says_it_once(chat: Chat) -> None:
    await chat.talk("hi", "hello")
    key = (await chat.hear("and?", owed="twice")).reply
    assert key is not None
    await chat.answer("twice", "and what?")
    await chat.store.finish("twice", ["other"])
    assert await chat.texts() == ["hi", "hello", "and?", "and what?"]


async def test_an_apology_stays_out_of_the_history(chat: Chat, clock: Clock) -> None:
    await chat.hear("hi", owed="key1")
    await chat.store.begin_posting(["key1"], ["I can't think just now."], is_apology=True)
    assert (await chat.store.unfinished("discord", not_before=clock.now))[0].is_apology
    await chat.store.finish("key1", ["f1"])
    assert await chat.texts() == ["hi"]
    assert await chat.store.unfinished("discord", not_before=clock.now) == []


async def test_what_was_promised_is_known_whatever_became_of_it(chat: Chat) -> None:
    overheard = await chat.hear("nobody asked")
    asked = await chat.hear("hi", owed="key1")
    assert await chat.store.was_promised(asked.turn_id)
    await chat.store.close_reply("key1", ReplyState.FAILED)
    assert await chat.store.was_promised(asked.turn_id)
    assert not await chat.store.was_promised(overheard.turn_id)


async def test_a_reply_stands_after_what_it_answers(chat: Chat) -> None:
    await chat.hear("one", owed="key1")
    await chat.hear("two", owed="key2")
    await chat.hear("three")
    await chat.answer("key1", "reply to one")
    await chat.answer("key2", "reply to two")
    assert await chat.texts() == ["one", "reply to one", "two", "reply to two", "three"]
    turns = await chat.turns()
    assert [turn.place for turn in turns] == sorted(turn.place for turn in turns)


async def test_a_reply_goes_with_its_question(chat: Chat) -> None:
    await chat.hear("one", owed="key1", message_id="m1")
    await chat.hear("two")
    await chat.answer("key1", "reply to one")
    await chat.store.delete("discord", "lobby", "m1")
    assert await chat.texts() == ["two"]


async def test_a_reply_to_a_burst_goes_with_any_message_of_it(chat: Chat) -> None:
    for number in (1, 2):
        await chat.hear(str(number), owed=f"key{number}", message_id=f"m{number}")
    assert await chat.store.begin_posting(["key2", "key1"], ["one, two"], is_apology=False)
    await chat.store.finish("key2", ["f1"])
    await chat.store.delete("discord", "lobby", "m1")
    assert await chat.texts() == ["2"]


async def test_a_burst_is_answered_by_one_reply(chat: Chat, clock: Clock) -> None:
    for number in (1, 2, 3):
        await chat.hear(str(number), owed=f"key{number}")
    keys = ["key3", "key1", "key2"]
    assert await chat.store.begin_posting(keys, ["All right."], is_apology=False)
    (owed,) = await chat.store.unfinished("discord", not_before=clock.now)
    assert owed.key == "key3"
    await chat.store.finish("key3", ["f1"])
    await chat.store.finish("key1", ["f2"])
    assert await chat.texts() == ["1", "2", "3", "All right."]


@pytest.mark.parametrize("state", [ReplyState.FAILED, ReplyState.CANCELLED])
async def test_a_closed_reply_is_no_longer_owed(
    chat: Chat, clock: Clock, state: ReplyState
) -> None:
    await chat.hear("hi", owed="key1")
    await chat.store.close_reply("key1", state)
    assert await chat.store.unfinished("discord", not_before=clock.now) == []
    assert not await chat.store.begin_posting(["key1"], ["late"], is_apology=False)
    await chat.store.finish("key1", ["f1"])
    assert await chat.texts() == ["hi"]


async def test_words_that_failed_after_they_were_written_can_still_be_closed(
    chat: Chat, clock: Clock
) -> None:
    await chat.hear("hi", owed="key1")
    await chat.store.begin_posting(["key1"], ["hello"], is_apology=False)
    await chat.store.close_reply("key1", ReplyState.FAILED)
    assert await chat.store.unfinished("discord", not_before=clock.now) == []
    await chat.store.finish("key1", ["f1"])
    assert await chat.texts() == ["hi"]


async def test_a_done_reply_cannot_be_begun_or_closed(chat: Chat) -> None:
    await chat.hear("hi", owed="key1")
    await chat.answer("key1", "hello")
    assert not await chat.store.begin_posting(["key1"], ["again"], is_apology=False)
    await chat.store.close_reply("key1", ReplyState.FAILED)
    await chat.store.finish("key1", ["f1"])
    assert await chat.texts() == ["hi", "hello"]


async def test_a_cancelled_first_key_changes_nothing_for_the_others(
    chat: Chat, clock: Clock
) -> None:
    await chat.hear("one", owed="key1")
    await chat.hear("two", owed="key2", message_id="m2")
    await chat.store.delete("discord", "lobby", "m2")
    assert not await chat.store.begin_posting(["key2", "key1"], ["x"], is_apology=False)
    (owed,) = await chat.store.unfinished("discord", not_before=clock.now)
    assert (owed.key, owed.state) == ("key1", ReplyState.QUEUED)


async def test_of_two_who_recovered_a_promise_one_may_keep_it(
    chat: Chat, store: SqlStore, clock: Clock
) -> None:
    await chat.hear("hi", owed="key1")
    begun = await asyncio.gather(
        *(store.begin_posting(["key1"], [f"words {n}"], is_apology=False) for n in range(4))
    )
    assert sorted(begun) == [False, False, False, True]
    (owed,) = await store.unfinished("discord", not_before=clock.now)
    assert owed.parts == (f"words {begun.index(True)}",)


async def test_unfinished_gives_the_oldest_first_and_fails_what_is_too_old(
    chat: Chat, store: SqlStore, clock: Clock
) -> None:
    await chat.hear("old", owed="old")
    await chat.hear("old, on Slack", owed="slack", where=SLACK)
    clock.advance(minutes=20)
    await chat.hear("first", owed="first")
    await chat.hear("second", owed="second", where=KITCHEN)
    await store.begin_posting(["second"], ["half"], is_apology=False)
    limit = clock.now - timedelta(minutes=15)
    owed = await store.unfinished("discord", not_before=limit)
    assert [reply.key for reply in owed] == ["first", "second"]
    assert owed[1].parts == ("half",)
    earlier = clock.now - timedelta(days=1)
    assert [reply.key for reply in await store.unfinished("discord", not_before=earlier)] == [
        "first",
        "second",
    ]
    assert [reply.key for reply in await store.unfinished("slack", not_before=earlier)] == ["slack"]


async def test_a_question_answered_again_loses_the_first_answer(
    chat: Chat, store: SqlStore
) -> None:
    asked = await chat.talk("what is 1 + 1?", "3")
    await store.promise(LOBBY, asked.turn_id, reply_key="again", address={}, author=ANN)
    assert await chat.texts() == ["what is 1 + 1?", "3"]
    await chat.answer("again", "2")
    assert await chat.texts() == ["what is 1 + 1?", "2"]


async def test_friend_takes_part_where_it_has_spoken(chat: Chat, store: SqlStore) -> None:
    assert not await store.is_friend_thread(LOBBY)
    await chat.hear("hi")
    assert not await store.is_friend_thread(LOBBY)
    await chat.hear("hi, friend", owed="key1")
    assert await store.is_friend_thread(LOBBY)
    await chat.answer("key1", "hello")
    assert await store.is_friend_thread(LOBBY)
    assert not await store.is_friend_thread(KITCHEN)
    await store.reset(LOBBY)
    assert await store.is_friend_thread(LOBBY)


async def test_calls_about_unknown_things_change_nothing(store: SqlStore, clock: Clock) -> None:
    assert not await store.begin_posting(["nobody"], ["x"], is_apology=False)
    await store.finish("nobody", ["m"])
    await store.close_reply("nobody", ReplyState.FAILED)
    await store.drop_turn(10**12)
    await store.move_window(LOBBY, 10**12)
    await store.edit("discord", "lobby", "nothing", "x")
    await store.delete("discord", "lobby", "nothing")
    assert await store.reset(LOBBY) == 0
    assert await store.forget_person("discord", "nobody") == 0
    assert await store.expire(before=clock.now) == 0
    assert await store.window(LOBBY) == []
