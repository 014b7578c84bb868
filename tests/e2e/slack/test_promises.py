"""What friend has taken on it sees through: done and said once, whatever breaks on the way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from bot import texts
from bot.errors import StoreFailed
from bot.platforms.slack.outlet import SlackOutlet
from tests.e2e.crashing import (
    ANSWERS,
    dies_before_it_acts,
    dies_within_the_deed,
    make_old,
    promises,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.slack.harness import Stage
    from tests.fakes.slack import Channel, Message, User

pytestmark = pytest.mark.e2e


async def said_in(stage: Stage, root: Message, expected: int) -> list[str]:
    """What friend has said in a thread, once there is so much, all of it finished."""

    def found() -> list[Message]:
        return stage.slack.messages(root.channel, by=stage.slack.bot, thread=root)

    async with asyncio.timeout(30):
        while len(found()) < expected or not all(message.finished for message in found()):
            await asyncio.sleep(0.02)
    return [message.text for message in found()]


@pytest.mark.parametrize("command", ANSWERS)
async def test_25_killed_after_the_deed_it_is_said_by_the_next_process(
    stage: Stage, general: Channel, alice: User, command: str
) -> None:
    slack = stage.slack
    async with stage.bot() as running:
        root = await slack.say(general, alice, f"{slack.bot.mention} plums")
        await said_in(stage, root, 1)
        await running.idle()
        with pytest.MonkeyPatch.context() as patch:
            dies_before_it_acts(running, patch)
            mention = f"{slack.bot.mention} {command}".strip()
            asked = await slack.say(general, alice, mention, thread=root)
            await slack.wait_delivered()
    async with stage.bot() as running:
        assert await said_in(stage, root, 2) == ["I heard: plums", ANSWERS[command]]
        await slack.redeliver(asked)
        await running.idle()
        await slack.say(general, alice, "and now?", thread=root)
        assert len(await said_in(stage, root, 3)) == 3
    left = [("user", "plums"), ("assistant", "I heard: plums")]
    if command in {"reset", "forget me"}:
        left = []
    assert stage.prompt() == [*left, ("user", "and now?")]


@pytest.mark.parametrize("command", ["reset", "forget me", "again", ""])
async def test_25_killed_within_the_deed_it_is_done_at_redelivery(
    stage: Stage, general: Channel, alice: User, command: str
) -> None:
    slack = stage.slack
    async with stage.bot() as running:
        root = await slack.say(general, alice, f"{slack.bot.mention} plums")
        await said_in(stage, root, 1)
        await running.idle()
        with pytest.MonkeyPatch.context() as patch:
            broke = dies_within_the_deed(patch)
            await slack.say(general, alice, f"{slack.bot.mention} {command}".strip(), thread=root)
            assert await said_in(stage, root, 2) == ["I heard: plums", ANSWERS[command]]
    assert broke


async def test_24_a_stream_that_cannot_be_stopped_is_completed(
    stage: Stage, general: Channel, alice: User, tmp_path: Path
) -> None:
    """Slack takes no update of a message that is still streamed."""
    slack = stage.slack
    stage.monkeypatch.setattr("bot.core.attempt.POST_AGAIN_AFTER", (0.05,))
    stage.model.reply_with("one two three four five six")
    stage.model.delay = 0.05
    slack.faults.next("chat.stopStream", ok_false="internal_error", times=2)
    async with stage.bot() as running:
        root = await slack.say(general, alice, f"{slack.bot.mention} count")
        assert await said_in(stage, root, 1) == ["one two three four five six"]
        await running.idle()
    assert slack.streams.open == []
    assert slack.statuses.stuck == []
    assert promises(tmp_path) == ["done"]


async def test_24_a_draft_that_could_not_be_taken_back_goes_later(
    stage: Stage, general: Channel, alice: User, tmp_path: Path
) -> None:
    slack = stage.slack
    stage.monkeypatch.setattr("bot.core.keeper.EVERY_SECONDS", 0.2)
    stage.model.reply_with(" ".join(["plums"] * 100))
    stage.model.delay = 0.1
    async with stage.bot():
        root = await slack.say(general, alice, f"{slack.bot.mention} tell me of plums")
        await slack.wait_for_call("chat.startStream")
        slack.faults.next("chat.delete", ok_false="internal_error")
        await slack.say(general, alice, f"{slack.bot.mention} reset", thread=root)
        await slack.wait_for_message(general, containing=texts.RESET_DONE)
        assert len(slack.messages(general, by=slack.bot)) == 2
        async with asyncio.timeout(30):
            while "withdrawing" in promises(tmp_path):
                await asyncio.sleep(0.05)
    assert [m.text for m in slack.messages(general, by=slack.bot)] == [texts.RESET_DONE]
    assert slack.streams.open == []


async def test_24_what_came_too_late_is_said_to_be_so_in_place_of_the_draft(
    stage: Stage, general: Channel, alice: User, tmp_path: Path
) -> None:
    slack = stage.slack
    stage.model.reply_with(" ".join(f"w{number}" for number in range(50)))
    stage.model.delay = 0.5
    async with stage.bot(FRIEND_DRAIN_SECONDS="0"):
        root = await slack.say(general, alice, f"{slack.bot.mention} tell me a story")
        await slack.wait_for_call("chat.startStream")
        await slack.wait_quiet()
    make_old(tmp_path)
    async with stage.bot():
        async with asyncio.timeout(30):
            while await said_in(stage, root, 1) != [texts.TOO_LATE]:
                await asyncio.sleep(0.05)
        await slack.wait_quiet()
    assert slack.streams.open == []
    assert slack.statuses.stuck == []


async def test_24_words_that_slack_refuses_are_owned_up_to(
    stage: Stage, general: Channel, alice: User, tmp_path: Path
) -> None:
    slack = stage.slack
    slack.streams.refused = True
    slack.faults.next("chat.postMessage", ok_false="invalid_blocks")
    async with stage.bot() as running:
        root = await slack.say(general, alice, f"{slack.bot.mention} hi")
        assert await said_in(stage, root, 1) == [texts.UNSAYABLE]
        await running.idle()
    assert promises(tmp_path) == ["failed"]
    assert slack.statuses.stuck == []


async def test_24_a_place_that_takes_nothing_costs_a_clear_line(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    slack.streams.refused = True
    slack.faults.next("chat.postMessage", ok_false="is_archived", times=9)
    with structlog.testing.capture_logs() as logs:
        async with stage.bot() as running:
            await slack.say(general, alice, f"{slack.bot.mention} hi")
            await slack.wait_for_call("chat.postMessage")
            await running.idle()
    (told,) = [entry for entry in logs if entry["event"] == "reply.undelivered"]
    assert "the channel is archived" in told["error"]


@pytest.mark.parametrize("call", ["window", "begin_posting", "finish"])
async def test_26_a_history_that_is_down_for_a_moment_costs_nothing(
    stage: Stage, general: Channel, alice: User, call: str, tmp_path: Path
) -> None:
    slack = stage.slack
    async with stage.bot() as running:
        real, failures = getattr(running.bot.store, call), list[int]()

        async def fails_three_times(*args: Any, **kwargs: Any) -> Any:
            if len(failures) < 3:
                failures.append(1)
                raise StoreFailed("The history file is locked by another program.")
            return await real(*args, **kwargs)

        stage.monkeypatch.setattr(running.bot.store, call, fails_three_times)
        stage.monkeypatch.setattr("bot.core.responder.HISTORY_PAUSES", (0.01,))
        root = await slack.say(general, alice, f"{slack.bot.mention} hello")
        assert await said_in(stage, root, 1) == ["I heard: hello"]
        await running.idle()
        assert await said_in(stage, root, 1) == ["I heard: hello"]
    assert len(failures) == 3
    assert promises(tmp_path) == ["done"]


@pytest.mark.parametrize("broken", ["show", "deliver", "working"])
async def test_21_a_defect_on_the_way_is_tried_over(
    stage: Stage, general: Channel, alice: User, broken: str, tmp_path: Path
) -> None:
    real, failures = getattr(SlackOutlet, broken), list[int]()

    def breaks_once(*args: Any, **kwargs: Any) -> Any:
        if not failures:
            failures.append(1)
            raise RuntimeError("a defect")
        return real(*args, **kwargs)

    stage.monkeypatch.setattr(SlackOutlet, broken, breaks_once)
    stage.monkeypatch.setattr("bot.core.responder.CRASH_PAUSES", (0.01, 0.01))
    async with stage.bot() as running:
        root = await stage.slack.say(general, alice, f"{stage.slack.bot.mention} hello")
        assert await said_in(stage, root, 1) == ["I heard: hello"]
        await running.idle()
    assert failures == [1]
    assert stage.slack.streams.open == []
    assert promises(tmp_path) == ["done"]


async def test_21_a_defect_that_stays_is_said_and_closed(
    stage: Stage, general: Channel, alice: User, tmp_path: Path
) -> None:
    def breaks(*args: Any) -> Any:
        raise RuntimeError("a defect")

    stage.monkeypatch.setattr(SlackOutlet, "working", breaks)
    stage.monkeypatch.setattr("bot.core.responder.CRASH_PAUSES", (0.01, 0.01))
    async with stage.bot() as running:
        root = await stage.slack.say(general, alice, f"{stage.slack.bot.mention} hello")
        (said,) = await said_in(stage, root, 1)
        await running.idle()
    assert said.startswith("Something in me broke")
    assert promises(tmp_path) == ["failed"]


async def test_29_nothing_is_overtaken_while_the_history_is_down(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot() as running:
        root = await slack.say(general, alice, f"{slack.bot.mention} zero")
        await said_in(stage, root, 1)
        real, failures = running.bot.store.window, list[int]()

        async def fails_for_a_while(*args: Any, **kwargs: Any) -> Any:
            if len(failures) < 2:
                failures.append(1)
                raise StoreFailed("The history file is locked by another program.")
            return await real(*args, **kwargs)

        stage.monkeypatch.setattr(running.bot.store, "window", fails_for_a_while)
        stage.monkeypatch.setattr("bot.core.responder.HISTORY_PAUSES", (0.05,))
        for word in ("one", "two", "three"):
            await slack.say(general, alice, word, thread=root)
        expected = [f"I heard: {word}" for word in ("zero", "one", "two", "three")]
        assert await said_in(stage, root, 4) == expected


async def test_22_an_answer_leaves_the_prompt_with_what_it_answers(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot() as running:
        root = await slack.say(general, alice, f"{slack.bot.mention} hello")
        await said_in(stage, root, 1)
        secret = await slack.say(general, alice, "my PIN is 1234", thread=root)
        await said_in(stage, root, 2)
        await running.idle()
        await slack.delete(secret)
        await slack.wait_delivered()
        await slack.say(general, alice, "and now?", thread=root)
        await said_in(stage, root, 3)
    assert [text for _, text in stage.prompt()] == ["hello", "I heard: hello", "and now?"]


@pytest.mark.parametrize(
    ("before", "own"),
    [
        ("i want to die", texts.DISTRESS),
        ("about", texts.ABOUT),
        ("reset", texts.NOTHING_TO_RESET),
        ("", texts.LISTENING),
    ],
)
async def test_17_friends_own_sentences_make_a_thread_its_own(
    stage: Stage, general: Channel, alice: User, before: str, own: str
) -> None:
    slack = stage.slack
    async with stage.bot() as running:
        root = await slack.say(general, alice, f"{slack.bot.mention} {before}".strip())
        assert await said_in(stage, root, 1) == [own]
        await running.idle()
        await slack.say(general, alice, "thank you, but I feel alone", thread=root)
        said = await said_in(stage, root, 2)
    assert said[1] == "I heard: thank you, but I feel alone"


async def test_17_plain_again_after_an_apology(stage: Stage, general: Channel, alice: User) -> None:
    slack = stage.slack
    async with stage.bot() as running:
        stage.model.faults.status(500, times=2)
        root = await slack.say(general, alice, f"{slack.bot.mention} plums")
        assert "say `again`" in (await said_in(stage, root, 1))[0]
        await running.idle()
        await slack.say(general, alice, "again", thread=root)
        assert (await said_in(stage, root, 2))[1] == "I heard: plums"


async def test_17_also_when_the_history_was_down(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack

    async def down(*args: object, **kwargs: object) -> None:
        raise StoreFailed("The history is out of space.")

    async with stage.bot() as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running.bot.store, "accept", down)
            root = await slack.say(general, alice, f"{slack.bot.mention} hi")
            assert await said_in(stage, root, 1) == [texts.HISTORY_DOWN]
            await slack.wait_delivered()
        await slack.say(general, alice, "and now?", thread=root)
        assert (await said_in(stage, root, 2))[1] == "I heard: and now?"


async def test_20_a_shortcut_without_a_message_resets_no_other(
    stage: Stage, general: Channel, alice: User
) -> None:
    from bot.platforms.slack.manifest import RESET_SHORTCUT
    from tests.fakes.slack import payloads

    slack = stage.slack
    real = payloads.message_shortcut

    def without_message(*args: Any) -> Any:
        return {**real(*args), "message": {}}

    async with stage.bot():
        root = await slack.say(general, alice, f"{slack.bot.mention} plums")
        await said_in(stage, root, 1)
        stage.monkeypatch.setattr(payloads, "message_shortcut", without_message)
        await slack.shortcut(root, alice, RESET_SHORTCUT)
        assert (await slack.wait_for_ephemeral(alice)).text == texts.WHERE_ARE_WE
        await slack.say(general, alice, "and now?", thread=root)
        await said_in(stage, root, 2)
    assert stage.prompt()[0] == ("user", "plums")


async def test_28_two_processes_on_one_history_do_not_talk_over_each_other(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    stage.model.first_delay = 0.5
    async with stage.bot() as first, stage.bot():
        root = await slack.say(general, alice, f"{slack.bot.mention} 0")
        for number in range(1, 6):
            said = await slack.say(general, alice, f"{slack.bot.mention} {number}", thread=root)
            await slack.redeliver(said)
        said = await said_in(stage, root, 6)
        await first.idle()
        assert await said_in(stage, root, 6) == said == [f"I heard: {n}" for n in range(6)]
    assert len(stage.model.answered) == 6
