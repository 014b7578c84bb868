"""Friend's behaviour, over the real store and the real client, on a platform in memory."""

from __future__ import annotations

import asyncio
import codecs
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bot import texts
from bot.errors import DeliveryFailed
from tests.bot.core.stage import ANN, BOB, Scene, Stage, scene
from tests.fakes.model import FakeModel, echo


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


@pytest.fixture
async def on_stage(tmp_path: Path, model: FakeModel) -> AsyncIterator[Scene]:
    async with scene(tmp_path, model) as stage:
        yield stage


async def test_a_mention_is_answered_and_both_are_remembered(on_stage: Scene) -> None:
    await on_stage.say("hello")
    await on_stage.quiet()
    assert on_stage.stage.texts() == ["I heard: hello"]
    await on_stage.say("how are you?")
    await on_stage.quiet()
    assert on_stage.prompts()[-1] == [
        ("user", "hello"),
        ("assistant", "I heard: hello"),
        ("user", "how are you?"),
    ]
    assert on_stage.stage.working == []
    outcome, times = on_stage.counts.replied_outcomes[-1]
    assert outcome == "answered"
    assert times.first_word is not None
    assert times.posted is not None
    assert times.first_word <= times.posted


async def test_names_go_with_the_words(on_stage: Scene) -> None:
    await on_stage.say("hi", by=BOB)
    await on_stage.quiet()
    assert on_stage.model.requests[0]["messages"][0]["name"] == "Bob"


async def test_the_same_event_is_answered_once(on_stage: Scene) -> None:
    for _ in range(3):
        await on_stage.say("hello", number=7)
    await on_stage.quiet()
    assert len(on_stage.stage.posts) == 1
    assert on_stage.counts.received_outcomes == ["queued", "duplicate", "duplicate"]


async def test_a_burst_is_answered_together(tmp_path: Path, model: FakeModel) -> None:
    async with scene(tmp_path, model, burst_seconds=60) as on_stage:
        with model.held():
            for text in ("one", "two", "three"):
                await on_stage.say(text)
        await on_stage.quiet()
        assert on_stage.stage.texts() == ["I heard: three"]
        assert on_stage.stage.posts[0].answers == "3"
        assert [content for _, content in on_stage.prompts()[-1]] == ["one", "two", "three"]


async def test_a_burst_of_two_people_is_not_one(tmp_path: Path, model: FakeModel) -> None:
    async with scene(tmp_path, model, burst_seconds=60) as on_stage:
        with model.held():
            await on_stage.say("one", by=ANN)
            await on_stage.say("two", by=BOB)
        await on_stage.quiet()
        assert on_stage.stage.texts() == ["I heard: one", "I heard: two"]


async def test_a_visible_draft_is_finished_before_the_burst_goes_on(
    tmp_path: Path, model: FakeModel
) -> None:
    model.reply_with("one two three four")
    model.delay = 0.1
    async with scene(tmp_path, model, stage=Stage(shows_drafts=True), burst_seconds=5) as on_stage:
        await on_stage.say("first")
        async with asyncio.timeout(20):
            while not on_stage.stage.visible:
                await asyncio.sleep(0.01)
        await on_stage.say("second")
        await on_stage.quiet()
        assert [post.answers for post in on_stage.stage.posts] == ["1", "2"]
        assert on_stage.stage.withdrawn == []


async def test_replies_keep_their_place_while_others_write(on_stage: Scene) -> None:
    with on_stage.model.held():
        for number, person in enumerate((ANN, BOB, ANN, BOB)):
            await on_stage.say(f"m{number}", by=person)
    await on_stage.quiet()
    assert [content for _, content in on_stage.prompts()[-1]] == [
        "m0",
        "I heard: m0",
        "m1",
        "I heard: m1",
        "m2",
        "I heard: m2",
        "m3",
    ]
    assert on_stage.stage.texts() == [f"I heard: m{number}" for number in range(4)]


async def test_conversations_run_side_by_side(tmp_path: Path, model: FakeModel) -> None:
    everybody = asyncio.Barrier(30)

    async def answer_all_at_once(messages: list[dict[str, str]]) -> str:
        await everybody.wait()
        return echo(messages)

    model.reply_with(answer_all_at_once)
    async with scene(tmp_path, model, person_per_minute=0) as on_stage:
        for number in range(30):
            await on_stage.say("hello", channel=f"c{number}")
        await on_stage.quiet()
        assert [post.text for post in on_stage.stage.posts] == ["I heard: hello"] * 30
        assert all(len(prompt) == 1 for prompt in on_stage.prompts())


async def test_reset_is_for_good(on_stage: Scene) -> None:
    await on_stage.say("my name is Ann")
    await on_stage.quiet()
    await on_stage.say("reset")
    await on_stage.quiet()
    await on_stage.say("what is my name?")
    await on_stage.quiet()
    assert texts.RESET_DONE in on_stage.stage.texts()
    assert on_stage.prompts()[-1] == [("user", "what is my name?")]


async def test_reset_stops_the_reply_under_way(tmp_path: Path, model: FakeModel) -> None:
    model.reply_with("one two three four five")
    model.delay = 0.2
    async with scene(tmp_path, model, stage=Stage(shows_drafts=True)) as on_stage:
        await on_stage.say("talk")
        async with asyncio.timeout(20):
            while not on_stage.stage.visible:
                await asyncio.sleep(0.01)
        await on_stage.say("reset")
        await on_stage.quiet()
        assert on_stage.stage.texts() == [texts.RESET_DONE]
        assert len(on_stage.stage.withdrawn) == 1
        assert await on_stage.store.window(on_stage.message("").conversation) == []


async def test_model_down_is_one_sentence_and_the_message_counts_later(on_stage: Scene) -> None:
    on_stage.model.faults.status(500, times=2)
    await on_stage.say("remember the milk")
    await on_stage.quiet()
    (sentence,) = on_stage.stage.texts()
    assert sentence.startswith("I can't think just now")
    await on_stage.say("again")
    await on_stage.quiet()
    assert on_stage.stage.texts()[1:] == ["I heard: remember the milk"]
    assert on_stage.stage.posts[1].answers == "2"
    await on_stage.say("and?")
    await on_stage.quiet()
    assert [content for _, content in on_stage.prompts()[-1]] == [
        "remember the milk",
        "I heard: remember the milk",
        "and?",
    ]


async def test_again_replaces_the_last_reply(on_stage: Scene) -> None:
    await on_stage.say("a joke please")
    await on_stage.quiet()
    on_stage.model.reply_with("a better one")
    await on_stage.say("again")
    await on_stage.quiet()
    await on_stage.say("thanks")
    await on_stage.quiet()
    assert [content for _, content in on_stage.prompts()[-1]] == [
        "a joke please",
        "a better one",
        "thanks",
    ]


async def test_again_with_nothing_said(on_stage: Scene) -> None:
    await on_stage.say("again")
    await on_stage.quiet()
    assert on_stage.stage.texts() == [texts.NOTHING_AGAIN]


async def test_a_bare_mention_answers_what_was_said_before(on_stage: Scene) -> None:
    await on_stage.say("is it going to rain?", mention=False)
    await on_stage.say("", by=BOB)
    await on_stage.quiet()
    assert on_stage.stage.texts() == ["I heard: is it going to rain?"]
    await on_stage.say("")
    await on_stage.quiet()
    assert on_stage.stage.texts()[1:] == [texts.LISTENING]


async def test_a_bare_mention_after_a_failure_does_not_answer_the_older_question(
    on_stage: Scene,
) -> None:
    on_stage.model.faults.status(500, times=2)
    await on_stage.say("what is 2 + 2?")
    await on_stage.quiet()
    await on_stage.say("", by=BOB)
    await on_stage.quiet()
    assert on_stage.stage.texts()[1:] == [texts.LISTENING]
    await on_stage.say("lovely weather", by=BOB, mention=False)
    await on_stage.say("", by=BOB)
    await on_stage.quiet()
    assert on_stage.stage.texts()[2:] == ["I heard: lovely weather"]


async def test_a_picture_alone_is_answered_once(on_stage: Scene) -> None:
    for _ in range(2):
        await on_stage.say("", number=5, files=("a picture, cat.png",))
    await on_stage.say("", mention=False, files=("a picture, cat.png",))
    await on_stage.quiet()
    assert on_stage.stage.texts() == [texts.ONLY_TEXT]


async def test_forget_me(on_stage: Scene) -> None:
    await on_stage.say("a secret", by=ANN, channel="c1")
    await on_stage.say("hello", by=BOB, channel="c1")
    await on_stage.say("another", by=ANN, channel="c2")
    await on_stage.quiet()
    await on_stage.say("forget me", by=ANN, channel="c2")
    await on_stage.quiet()
    assert on_stage.stage.texts("c2")[-1] == texts.forgot(2)
    window = await on_stage.store.window(on_stage.message("", channel="c1").conversation)
    assert [turn.text for turn in window] == ["hello", "I heard: hello"]


async def test_an_empty_reply_is_asked_for_twice_then_excused(on_stage: Scene) -> None:
    on_stage.model.reply_with("")
    await on_stage.say("hello")
    await on_stage.quiet()
    assert on_stage.stage.texts() == [texts.SPEECHLESS]
    assert len(on_stage.prompts()) == 2


async def test_long_replies_are_split_and_remembered_as_one(
    tmp_path: Path, model: FakeModel
) -> None:
    said = " ".join(f"word{number}" for number in range(600))
    model.reply_with(said)
    async with scene(tmp_path, model, max_tokens=1000) as on_stage:
        await on_stage.say("talk")
        await on_stage.quiet()
        assert len(on_stage.stage.posts) == 3
        assert " ".join(on_stage.stage.texts()) == said
        window = await on_stage.store.window(on_stage.message("").conversation)
    assert len(window) == 2
    assert window[1].text.split() == said.split()


async def test_words_that_cannot_be_posted_are_posted_later(
    on_stage: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.core.attempt.POST_AGAIN_AFTER", (0.01,))
    on_stage.stage.refusals = [DeliveryFailed("down", retryable=True)] * 3
    await on_stage.say("hello")
    await on_stage.quiet()
    assert on_stage.stage.texts() == ["I heard: hello"]
    assert len(on_stage.prompts()) == 1


async def test_words_nobody_may_post_are_given_up(on_stage: Scene) -> None:
    on_stage.stage.refusals = [DeliveryFailed("forbidden", retryable=False)]
    await on_stage.say("hello")
    await on_stage.quiet()
    assert on_stage.stage.texts() == []
    assert on_stage.counts.replied_outcomes[0][0] == "undelivered"
    await on_stage.say("still there?")
    await on_stage.quiet()
    assert [content for _, content in on_stage.prompts()[-1]] == ["hello", "still there?"]


async def test_a_deleted_message_is_not_answered(tmp_path: Path, model: FakeModel) -> None:
    async with scene(tmp_path, model) as on_stage:
        with model.held():
            await on_stage.say("oops")
            await on_stage.friend.on_delete("stage", "general", "1")
        await on_stage.quiet()
        assert on_stage.stage.texts() == []


async def test_deleting_the_end_of_a_burst_leaves_the_rest_to_answer(
    tmp_path: Path, model: FakeModel
) -> None:
    async with scene(tmp_path, model, burst_seconds=60) as on_stage:
        with model.held():
            await on_stage.say("one")
            await on_stage.say("two")
            await on_stage.friend.on_delete("stage", "general", "2")
        await on_stage.quiet()
        assert on_stage.stage.texts() == ["I heard: one"]
        assert on_stage.stage.posts[0].answers == "1"
        assert await on_stage.friend.recover("stage") == 0


async def test_an_edit_changes_what_the_model_reads(on_stage: Scene) -> None:
    await on_stage.say("my cat is calld Tom")
    await on_stage.quiet()
    edited = on_stage.message("my cat is called Tom", number=1)
    await on_stage.friend.on_edit(edited, calls=True)
    await on_stage.say("and?")
    await on_stage.quiet()
    assert on_stage.prompts()[-1][0] == ("user", "my cat is called Tom")


async def test_an_edit_that_mentions_friend_calls_once(on_stage: Scene) -> None:
    await on_stage.say("is it going to rain?", number=1, mention=False)
    for _ in range(2):
        edited = on_stage.message("is it going to snow?", number=1)
        await on_stage.friend.on_edit(edited, calls=True)
        await on_stage.quiet()
    assert on_stage.stage.texts() == ["I heard: is it going to snow?"]


async def test_an_edit_by_nobody_does_not_call(on_stage: Scene) -> None:
    await on_stage.say("hello", number=1, mention=False)
    await on_stage.friend.on_edit(on_stage.message("hello", number=1), calls=False)
    await on_stage.quiet()
    assert on_stage.stage.texts() == []


@pytest.mark.parametrize(
    ("text", "said"), [("about", texts.ABOUT), ("", "I heard: before")], ids=["command", "bare"]
)
async def test_an_edit_may_make_a_command_or_a_bare_mention(
    on_stage: Scene, text: str, said: str
) -> None:
    await on_stage.say("before", mention=False, by=BOB)
    await on_stage.say("hello", number=5, mention=False)
    for _ in range(2):
        await on_stage.friend.on_edit(on_stage.message(text, number=5), calls=True)
        await on_stage.quiet()
    assert on_stage.stage.texts() == [said]


async def test_a_message_and_its_repetition_are_answered_once(on_stage: Scene) -> None:
    await on_stage.say("L: hello", number=1)
    await on_stage.quiet()
    await on_stage.friend.on_message(on_stage.message("hello", number=2), instead_of="1")
    await on_stage.friend.on_delete("stage", "general", "1")
    await on_stage.say("and?", number=3)
    await on_stage.quiet()
    assert [words for _, words in on_stage.prompts()[-1]] == ["hello", "I heard: L: hello", "and?"]


async def test_a_repetition_that_is_a_command_is_obeyed(on_stage: Scene) -> None:
    with on_stage.model.held():
        await on_stage.say("L: about", number=1)
        await on_stage.friend.on_message(on_stage.message("about", number=2), instead_of="1")
    await on_stage.quiet()
    assert on_stage.stage.texts() == [texts.ABOUT]


async def test_words_beside_a_mention_are_answered(on_stage: Scene) -> None:
    await on_stage.say("earlier", mention=False)
    await on_stage.say("", beside='Forwarded message: "later"')
    await on_stage.quiet()
    assert on_stage.stage.texts() == ['I heard: Forwarded message: "later"']


async def test_the_queue_has_a_limit_and_says_so_once(tmp_path: Path, model: FakeModel) -> None:
    async with scene(tmp_path, model, queue_depth=2) as on_stage:
        with model.held():
            for number in range(5):
                await on_stage.say(f"m{number}")
        await on_stage.quiet()
        assert on_stage.stage.texts().count(texts.BEHIND) == 1
        assert len(on_stage.prompts()) == 2
        await on_stage.say("now?")
        await on_stage.quiet()
        said = [content for role, content in on_stage.prompts()[-1] if role == "user"]
        assert said == ["m0", "m1", "m2", "m3", "m4", "now?"]


async def test_a_person_too_fast_is_told_once_and_remembered(
    tmp_path: Path, model: FakeModel
) -> None:
    async with scene(tmp_path, model, person_per_minute=1) as on_stage:
        for number in range(3):
            await on_stage.say(f"m{number}")
            await on_stage.quiet()
        assert on_stage.stage.texts() == ["I heard: m0", texts.SLOW_DOWN]
        window = await on_stage.store.window(on_stage.message("").conversation)
        assert [turn.text for turn in window] == ["m0", "I heard: m0", "m1", "m2"]


async def test_bots_and_blocked_people_are_ignored(tmp_path: Path, model: FakeModel) -> None:
    async with scene(tmp_path, model, block_people={"bob"}) as on_stage:
        await on_stage.say("hello", by=BOB)
        await on_stage.say("hello", from_bot=True)
        await on_stage.quiet()
        assert on_stage.stage.posts == []
        assert on_stage.counts.received_outcomes == ["ignored", "ignored"]


async def test_a_hundred_thousand_characters(on_stage: Scene) -> None:
    await on_stage.say("lorem ipsum " * 8500)
    await on_stage.quiet()
    assert len(on_stage.prompts()[0][0][1]) <= 2001
    window = await on_stage.store.window(on_stage.message("").conversation)
    assert len(window[0].text) > 100_000


async def test_what_was_owed_is_answered_after_a_restart(tmp_path: Path, model: FakeModel) -> None:
    model.faults.hang(times=10)
    stage = Stage()
    async with scene(tmp_path, model, stage=stage) as before:
        await before.say("hello")
        await asyncio.sleep(0.1)
    assert stage.posts == []
    model.faults.clear()
    async with scene(tmp_path, model, stage=stage) as after:
        assert await after.friend.recover("stage") == 1
        await after.quiet()
        await after.say("hello", number=1)
        await after.quiet()
    assert stage.texts() == ["I heard: hello"]
    async with scene(tmp_path, model, stage=stage) as later:
        assert await later.friend.recover("stage") == 0


async def test_history_down_is_said(on_stage: Scene, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "history.sqlite3")) as damaged:
        damaged.execute("DROP TABLE turns")
    await on_stage.say("hello")
    await on_stage.quiet()
    assert on_stage.stage.texts() == [texts.HISTORY_DOWN]


async def test_distress_is_answered_with_help_and_not_by_the_model(
    tmp_path: Path, model: FakeModel
) -> None:
    async with scene(tmp_path, model, person_per_minute=1) as on_stage:
        await on_stage.say("hello")
        await on_stage.quiet()
        for _ in range(2):
            await on_stage.say("i want to die")
            await on_stage.quiet()
        assert on_stage.stage.texts()[1:] == [texts.DISTRESS] * 2
        assert len(on_stage.prompts()) == 1


async def test_a_slur_is_never_said(tmp_path: Path, model: FakeModel) -> None:
    slur = codecs.decode("snttbg", "rot13")
    answers = iter([f"you are a {slur}", "you are nice"])
    model.reply_with(lambda messages: next(answers))
    async with scene(tmp_path, model, stage=Stage(shows_drafts=True)) as on_stage:
        await on_stage.say("what am I?")
        await on_stage.quiet()
        assert on_stage.stage.texts() == ["you are nice"]


async def test_a_sleeping_model_is_woken_before_the_message_is_even_stored(
    tmp_path: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, model, asleep_after=60) as on_stage:
        accept = on_stage.store.accept

        async def accept_once_pinged(*args: Any, **kwargs: Any) -> Any:
            async with asyncio.timeout(20):
                while not model.warmed:
                    await asyncio.sleep(0.01)
            return await accept(*args, **kwargs)

        monkeypatch.setattr(on_stage.store, "accept", accept_once_pinged)
        await on_stage.say("hello")
        await on_stage.say("are you awake?", channel="another")
        await on_stage.quiet()
        assert [request.path for request in model.received].count("/") == 1
        assert len(model.answered) == 2


async def test_what_needs_no_model_wakes_none(tmp_path: Path, model: FakeModel) -> None:
    async with scene(tmp_path, model, asleep_after=60, block_people="bob") as on_stage:
        await on_stage.say("nothing to friend", mention=False)
        await on_stage.say("hello", by=BOB)
        await on_stage.say("about")
        await on_stage.say("reset")
        await on_stage.say("")
        on_stage.friend.expect(on_stage.message("").conversation, BOB.id, is_direct=True)
        await on_stage.quiet()
        await asyncio.sleep(0.1)
        assert model.received == []


async def test_a_ping_that_fails_costs_no_reply(tmp_path: Path) -> None:
    async with (
        FakeModel(warm_ping=False) as model,
        scene(tmp_path, model, asleep_after=60) as on_stage,
    ):
        await on_stage.say("hello")
        await on_stage.quiet()
        assert on_stage.stage.texts() == ["I heard: hello"]
