"""The terminal goes through the same core, store and HTTP as every platform."""

from __future__ import annotations

import asyncio

from bot import texts
from tests.bot.platforms.terminal.conftest import SitDown
from tests.fakes.model import FakeModel


class Watched:
    """A view that keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def show(self, text: str) -> bool:
        self.seen.append(text)
        return True


async def test_a_line_gets_a_reply_and_both_are_remembered(sit_down: SitDown) -> None:
    async with sit_down() as desk:
        answer = await desk.exchange.ask("hi there")
        assert (answer.text, answer.failed, answer.stopped) == ("I heard: hi there", False, False)
        assert await desk.turns() == [("user", "hi there"), ("assistant", "I heard: hi there")]


async def test_the_conversation_goes_on_next_time(sit_down: SitDown, model: FakeModel) -> None:
    async with sit_down() as desk:
        await desk.exchange.ask("I am Ada")
    async with sit_down() as desk:
        await desk.exchange.ask("who am I?")
    said = [message["content"] for message in model.requests[-1]["messages"]]
    assert said == ["I am Ada", "I heard: I am Ada", "who am I?"]


async def test_sessions_have_separate_memories(sit_down: SitDown, model: FakeModel) -> None:
    async with sit_down(session="work") as desk:
        await desk.exchange.ask("about work")
    async with sit_down(session="play") as desk:
        await desk.exchange.ask("about play")
    assert [m["content"] for m in model.requests[-1]["messages"]] == ["about play"]


async def test_words_show_as_they_come(sit_down: SitDown, model: FakeModel) -> None:
    model.reply_with("one two three")
    view = Watched()
    async with sit_down(view) as desk:
        await desk.exchange.ask("count")
    assert view.seen[0] == "one"
    assert view.seen[-1] == "one two three"
    assert all(
        later.startswith(earlier) for earlier, later in zip(view.seen, view.seen[1:], strict=False)
    )


async def test_reset_starts_afresh(sit_down: SitDown, model: FakeModel) -> None:
    async with sit_down() as desk:
        await desk.exchange.ask("old")
        assert await desk.exchange.reset() == texts.RESET_DONE
        await desk.exchange.ask("new")
    assert [m["content"] for m in model.requests[-1]["messages"]] == ["new"]


async def test_a_command_in_words_is_no_failure(sit_down: SitDown) -> None:
    async with sit_down() as desk:
        answer = await desk.exchange.ask("about")
    assert (answer.text, answer.failed) == (texts.ABOUT, False)


async def test_again_replaces_the_reply(sit_down: SitDown, model: FakeModel) -> None:
    model.reply_with("first try")
    async with sit_down() as desk:
        await desk.exchange.ask("well?")
        model.reply_with("second try")
        assert (await desk.exchange.ask("again")).text == "second try"
        assert await desk.turns() == [("user", "well?"), ("assistant", "second try")]


async def test_forgetting_erases_every_session(sit_down: SitDown) -> None:
    async with sit_down(session="other") as desk:
        await desk.exchange.ask("a secret")
    async with sit_down() as desk:
        assert await desk.exchange.forget() == texts.forgot(1)
    async with sit_down(session="other") as desk:
        assert all(text != "a secret" for _, text in await desk.turns())


async def test_a_model_that_is_down_is_a_failure_and_the_message_counts(
    sit_down: SitDown, model: FakeModel
) -> None:
    model.faults.status(400)
    async with sit_down() as desk:
        answer = await desk.exchange.ask("are you there?")
        assert answer.failed
        assert answer.text.startswith(texts.model_down("", again=False).split("(", maxsplit=1)[0])
        assert await desk.turns() == [("user", "are you there?")]
        assert not (await desk.exchange.ask("again")).failed
        assert (await desk.turns())[-1] == ("assistant", "I heard: are you there?")


async def test_a_stopped_reply_is_remembered_as_far_as_it_was_read(
    sit_down: SitDown, model: FakeModel
) -> None:
    model.reply_with("one two three four five six")
    model.faults.silence(after_words=2)
    view = Watched()
    async with sit_down(view) as desk:
        asking = asyncio.create_task(desk.exchange.ask("count"))
        async with asyncio.timeout(20):
            while "one two" not in view.seen:
                await asyncio.sleep(0.01)
        await desk.exchange.stop()
        answer = await asking
        assert (answer.text, answer.stopped) == ("one two", True)
        assert await desk.turns() == [("user", "count"), ("assistant", "one two")]
        assert not (await desk.exchange.ask("go on")).stopped


async def test_stopping_before_the_first_word_leaves_nothing_owed(
    sit_down: SitDown, model: FakeModel
) -> None:
    model.faults.hang()
    async with sit_down() as desk:
        asking = asyncio.create_task(desk.exchange.ask("anyone?"))
        async with asyncio.timeout(20):
            while not model.requests:
                await asyncio.sleep(0.01)
        await desk.exchange.stop()
        answer = await asking
        assert (answer.text, answer.stopped) == ("", True)
        assert await desk.bot.friend.recover("terminal") == 0
        assert await desk.turns() == [("user", "anyone?")]


async def test_words_that_a_killed_chat_had_ready_are_remembered(
    sit_down: SitDown, model: FakeModel
) -> None:
    async with sit_down() as desk:
        accepted = await desk.bot.store.accept(desk.platform.message("hi"), reply_key="k")
        assert accepted is not None
        assert await desk.bot.store.begin_posting(["k"], ["hello!"], is_apology=False)
    async with sit_down() as desk:
        await desk.exchange.take_up()
        await desk.exchange.take_up()
        assert await desk.turns() == [("user", "hi"), ("assistant", "hello!")]
    assert model.requests == []


async def test_no_limit_is_met_by_a_long_pipe(sit_down: SitDown) -> None:
    async with sit_down() as desk:
        answers = [await desk.exchange.ask(f"line {number}") for number in range(30)]
    assert [answer.text for answer in answers] == [f"I heard: line {n}" for n in range(30)]


async def test_lists_meant_for_company_do_not_lock_the_owner_out(
    sit_down: SitDown, monkeypatch: object
) -> None:
    from dataclasses import replace

    from bot.chat import for_one_person
    from bot.settings import AccessSettings, TriggerSettings, load_settings

    strict = replace(
        load_settings(),
        access=AccessSettings(allow_people="U1", person_per_minute=1),
        trigger=TriggerSettings(direct_messages=False),
    )
    relaxed = for_one_person(strict)
    assert not relaxed.access.allow_people
    assert relaxed.access.person_per_minute == 0
    assert relaxed.access.queue_depth == 20
    assert relaxed.trigger.direct_messages
