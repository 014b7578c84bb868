"""Edits, deletions, resets, people who want to be forgotten, and the retention limit."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from bot.stores import SqlStore, open_store
from tests.bot.stores.conftest import Clock
from tests.bot.stores.people import ANN, BOB, KITCHEN, LOBBY, SLACK, THREAD, Chat, message


async def test_an_edit_is_followed(chat: Chat, store: SqlStore) -> None:
    await chat.hear("helo", message_id="m1")
    await chat.hear("same id elsewhere", message_id="m1", where=KITCHEN)
    await store.edit("discord", "lobby", "m1", "hello")
    assert await chat.texts() == ["hello"]
    assert await chat.texts(KITCHEN) == ["same id elsewhere"]


async def test_a_thread_is_found_by_its_own_id_and_by_its_channel(
    chat: Chat, store: SqlStore
) -> None:
    await chat.hear("one", message_id="m1", where=THREAD)
    await chat.hear("two", message_id="m2", where=THREAD)
    await store.edit("discord", "thread", "m1", "ONE")
    await store.edit("discord", "lobby", "m2", "TWO")
    await store.edit("slack", "lobby", "m2", "no")
    assert await chat.texts(THREAD) == ["ONE", "TWO"]


async def test_friends_own_words_are_not_edited(chat: Chat, store: SqlStore) -> None:
    await chat.hear("hi", owed="key1")
    await chat.answer("key1", "hello")
    await store.edit("discord", "lobby", "key1-0", "hel")
    assert await chat.texts() == ["hi", "hello"]


async def test_a_message_takes_the_place_of_another(
    chat: Chat, store: SqlStore, clock: Clock
) -> None:
    await chat.hear("L: hello", owed="key1", message_id="m1")
    copy = message("hello", message_id="m2", by=BOB, sent_at=clock.now)
    assert await store.replace("m1", copy)
    await store.delete("discord", "lobby", "m1")
    (turn,) = await store.window(LOBBY)
    assert (turn.text, turn.message_id, turn.speaker) == ("hello", "m2", BOB)
    (owed,) = await store.unfinished("discord", not_before=clock.now)
    assert (owed.key, owed.author, owed.address) == ("key1", BOB, copy.address)
    assert await store.accept(copy, reply_key="key2") is None
    other = message("else", message_id="m3", sent_at=clock.now)
    assert not await store.replace("m9", other)
    assert await store.accept(other, reply_key=None)


async def test_a_deletion_is_followed_and_its_promise_cancelled(
    chat: Chat, store: SqlStore, clock: Clock
) -> None:
    await chat.hear("keep", owed="key1")
    await chat.hear("remove", owed="key2", message_id="m2")
    await store.delete("discord", "lobby", "m2")
    assert await chat.texts() == ["keep"]
    owed = await store.unfinished("discord", not_before=clock.now)
    assert [reply.key for reply in owed] == ["key1"]
    assert not await store.begin_posting(["key2"], ["x"], is_apology=False)


async def test_a_message_deleted_while_its_reply_is_posted_leaves_no_reply_behind(
    chat: Chat, store: SqlStore, clock: Clock
) -> None:
    await chat.hear("remove", owed="key1", message_id="m1")
    await store.begin_posting(["key1"], ["x"], is_apology=False)
    await store.delete("discord", "lobby", "m1")
    await store.finish("key1", ["f1"])
    assert await chat.texts() == []
    assert await store.unfinished("discord", not_before=clock.now) == []


async def test_deleting_any_part_of_a_long_reply_takes_it_out(chat: Chat, store: SqlStore) -> None:
    await chat.hear("tell me more", owed="key1")
    await chat.answer("key1", "part one", "part two", "part three")
    await store.delete("discord", "lobby", "key1-2")
    assert await chat.texts() == ["tell me more"]


async def test_a_reset_empties_the_window_for_good(chat: Chat, store: SqlStore) -> None:
    await chat.talk("hi", "hello")
    await chat.hear("secret", message_id="m1")
    await chat.hear("elsewhere", where=KITCHEN)
    assert await store.reset(LOBBY) == 3
    assert await chat.texts() == []
    await store.edit("discord", "lobby", "m1", "edited")
    await store.move_window(LOBBY, 1)
    assert await chat.texts() == []
    assert await chat.texts(KITCHEN) == ["elsewhere"]
    await chat.talk("hi again", "hello again")
    assert await chat.texts() == ["hi again", "hello again"]
    assert await store.reset(LOBBY) == 2
    assert await store.reset(LOBBY) == 0


async def test_a_channel_is_reset_with_its_threads(
    chat: Chat, store: SqlStore, clock: Clock
) -> None:
    for where in (LOBBY, THREAD, KITCHEN, SLACK):
        await chat.hear("hi", where=where, owed=f"{where.platform}-{where.channel}-{where.thread}")
    assert await store.reset_channel(LOBBY) == 2
    assert [await chat.texts(where) for where in (LOBBY, THREAD)] == [[], []]
    assert [await chat.texts(where) for where in (KITCHEN, SLACK)] == [["hi"], ["hi"]]
    owed = await store.unfinished("discord", not_before=clock.now)
    assert [reply.conversation for reply in owed] == [KITCHEN]
    await chat.hear("hi again", where=THREAD)
    assert await chat.texts(THREAD) == ["hi again"]
    assert await store.reset_channel(THREAD) == 1
    assert await store.reset_channel(LOBBY) == 0


async def test_a_reset_counts_only_what_was_in_the_window(chat: Chat, store: SqlStore) -> None:
    await chat.hear("one")
    second = await chat.hear("two")
    third = await chat.hear("three")
    await store.move_window(LOBBY, second.turn_id)
    await store.drop_turn(third.turn_id)
    assert await store.reset(LOBBY) == 1


async def test_a_reset_cancels_what_is_owed(chat: Chat, store: SqlStore, clock: Clock) -> None:
    await chat.hear("one", owed="posting")
    await chat.hear("two", owed="queued")
    await chat.hear("other", owed="other", where=KITCHEN)
    await store.begin_posting(["posting"], ["half"], is_apology=False)
    await store.reset(LOBBY)
    owed = await store.unfinished("discord", not_before=clock.now)
    assert [reply.key for reply in owed] == ["other"]
    assert not await store.begin_posting(["queued"], ["x"], is_apology=False)
    await store.finish("posting", ["f1"])
    assert await chat.texts() == []


async def test_a_reply_to_a_message_from_before_a_reset_stays_out(
    chat: Chat, store: SqlStore
) -> None:
    asked = await chat.hear("old")
    await store.reset(LOBBY)
    await store.promise(LOBBY, asked.turn_id, reply_key="late", address={}, author=ANN)
    await chat.answer("late", "late reply")
    await chat.hear("new")
    assert await chat.texts() == ["new"]


async def test_forgetting_erases_a_person_everywhere_on_the_platform(
    chat: Chat, store: SqlStore, clock: Clock
) -> None:
    await chat.talk("I am Ann", "Hello Ann!")
    await chat.talk("I am Bob", "Hello Bob!", by=BOB)
    await chat.hear("in the kitchen", where=KITCHEN)
    await chat.hear("on Slack", where=SLACK)
    await chat.hear("unanswered", owed="owed", where=THREAD)
    await chat.hear("Bob is owed this", by=BOB, owed="bob")
    assert await store.forget_person("discord", ANN.id) == 3
    assert await chat.texts() == ["I am Bob", "Hello Bob!", "Bob is owed this"]
    assert await chat.texts(KITCHEN) == []
    assert await chat.texts(THREAD) == []
    assert await chat.texts(SLACK) == ["on Slack"]
    owed = await store.unfinished("discord", not_before=clock.now)
    assert [reply.key for reply in owed] == ["bob"]
    assert await store.forget_person("discord", ANN.id) == 0


async def test_forgetting_reaches_replies_that_somebody_else_asked_for(
    chat: Chat, store: SqlStore
) -> None:
    asked = await chat.hear("my number is 12345")
    await store.promise(LOBBY, asked.turn_id, reply_key="again", address={}, author=BOB)
    await chat.answer("again", "So it is 12345.")
    await store.forget_person("discord", ANN.id)
    assert await chat.texts() == []


async def test_a_forgotten_event_is_not_accepted_again(store: SqlStore, clock: Clock) -> None:
    said = message("hi", sent_at=clock.now)
    await store.accept(said, reply_key=None)
    await store.forget_person("discord", ANN.id)
    assert await store.accept(said, reply_key=None) is None


async def test_expiry_erases_what_is_older_than_the_limit(
    chat: Chat, store: SqlStore, clock: Clock
) -> None:
    await chat.hear("too old", hours_ago=25)
    await chat.hear("old and owed", hours_ago=25, owed="old")
    await chat.hear("young enough", hours_ago=23)
    assert await store.expire(before=clock.now - timedelta(hours=24)) == 2
    assert await chat.texts() == ["young enough"]
    assert await store.unfinished("discord", not_before=clock.now) == []


async def test_expiry_erases_replies_and_leaves_empty_conversations_usable(
    chat: Chat, store: SqlStore, clock: Clock
) -> None:
    await chat.talk("hi", "hello")
    await store.reset(LOBBY)
    clock.advance(days=31)
    assert await store.expire(before=clock.now - timedelta(days=30)) == 2
    assert not await store.is_friend_thread(LOBBY)
    await chat.hear("back again")
    assert await chat.texts() == ["back again"]


async def test_events_are_known_for_two_days_however_short_the_retention(
    store: SqlStore, clock: Clock
) -> None:
    said = message("hi", sent_at=clock.now)
    await store.accept(said, reply_key=None)
    clock.advance(hours=47)
    assert await store.expire(before=clock.now - timedelta(hours=1)) == 1
    assert await store.accept(said, reply_key=None) is None
    clock.advance(hours=2)
    await store.expire(before=clock.now - timedelta(hours=1))
    assert await store.first_sight("discord", said.event_id)


async def test_erased_words_leave_the_file_too(
    sqlite_url: str, tmp_path: Path, clock: Clock
) -> None:
    store = await open_store(sqlite_url, clock=clock)
    chat = Chat(store, clock.now)
    await chat.talk("my secret is zanzibar-1", "zanzibar-1, you say")
    await chat.hear("zanzibar-2", by=BOB, message_id="m2")
    await chat.hear("zanzibar-3", by=BOB, hours_ago=1)
    await chat.hear("zanzibar-4", by=BOB)

    def left() -> set[int]:
        files = list(tmp_path.glob("history.sqlite3*"))
        assert files
        content = b"".join(file.read_bytes() for file in files)
        return {number for number in (1, 2, 3, 4) if b"zanzibar-%d" % number in content}

    assert left() == {1, 2, 3, 4}
    await store.forget_person("discord", ANN.id)
    assert left() == {2, 3, 4}
    await store.delete("discord", "lobby", "m2")
    assert left() == {3, 4}
    await store.expire(before=clock.now - timedelta(minutes=30))
    assert left() == {4}
    await store.close()
