"""Words as they come, the thinking line, and what happens when Slack wants neither."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bot.platforms.slack import draft, texts

if TYPE_CHECKING:
    from tests.e2e.slack.harness import Stage
    from tests.fakes.slack import Channel, User

pytestmark = pytest.mark.e2e

STORY = " ".join(f"w{number}" for number in range(30))


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft, "APPEND_SECONDS", 0.05)


async def test_words_grow_in_one_message(stage: Stage, general: Channel, alice: User) -> None:
    slack = stage.slack
    stage.model.reply_with(STORY)
    stage.model.delay = 0.02
    async with stage.bot():
        await slack.say(general, alice, f"{slack.bot.mention} tell me a story")
        reply = await slack.wait_for_message(general)
        await slack.wait_quiet()
    (stream,) = slack.streams.all
    assert stream.message is reply
    assert reply.text == STORY
    assert len(stream.pieces) >= 4, "it grew"
    assert stream.recipient == alice.id
    assert reply.metadata is not None
    assert slack.calls("chat.postMessage") == slack.calls("chat.update") == []


async def test_thinking_line_shows_until_the_words_come(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        with stage.model.held():
            asked = await slack.say(general, alice, f"{slack.bot.mention} hi")
            await slack.wait_for_call("assistant.threads.setStatus")
            assert slack.statuses.current((general.id, asked.ts)) == texts.STATUS
        await slack.wait_for_message(general)
        await slack.wait_quiet()
    assert slack.statuses.shown == [texts.STATUS]
    assert slack.statuses.stuck == slack.statuses.late == []


@pytest.mark.parametrize(
    "fault",
    ["slow", "hang", "lost", "lost again", "reset", "broken", "ratelimited", "refused"],
)
async def test_thinking_line_never_stays_or_comes_late(
    stage: Stage, general: Channel, alice: User, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it hold the reply up: it is set by a single try, and only clearing is repeated."""
    slack = stage.slack
    method = "assistant.threads.setStatus"
    if fault == "slow":
        slack.faults.next(method, slow=0.7)
    elif fault == "hang":
        monkeypatch.setattr("bot.platforms.slack.status.CALL_SECONDS", 0.3)
        slack.faults.next(method, hang=1.0)
    elif fault.startswith("lost"):
        slack.faults.next(method, lost=True, times=1 + fault.count("again"))
    elif fault == "reset":
        slack.faults.next(method, reset=True)
    elif fault == "broken":
        slack.faults.next(method, html=503)
    elif fault == "ratelimited":
        slack.faults.next(method, status=429, retry_after=1)
    else:
        slack.faults.next(method, ok_false="channel_type_not_supported")
    async with stage.bot():
        await slack.say(general, alice, f"{slack.bot.mention} hi")
        assert (await slack.wait_for_message(general)).text == "I heard: hi"
        await slack.wait_quiet(0.5)
    assert slack.statuses.stuck == slack.statuses.late == []
    assert slack.faults.pending == 0
    tries = [call.arguments["status"] for call in slack.calls(method)]
    assert tries.count(texts.STATUS) == 1


async def test_refused_stream_becomes_a_post(stage: Stage, general: Channel, alice: User) -> None:
    slack = stage.slack
    slack.streams.refused = True
    async with stage.bot():
        asked = await slack.say(general, alice, f"{slack.bot.mention} hi")
        reply = await slack.wait_for_message(general)
        await slack.wait_quiet()
    assert (reply.text, reply.thread_ts) == ("I heard: hi", asked.ts)
    assert slack.messages(general, by=slack.bot) == [reply]
    assert len(slack.calls("chat.postMessage")) == 1
    assert slack.statuses.stuck == slack.statuses.late == []


async def test_stream_that_slack_ends_is_completed_by_an_edit(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    stage.model.reply_with(STORY)
    stage.model.delay = 0.1
    async with stage.bot():
        await slack.say(general, alice, f"{slack.bot.mention} tell me a story")
        await slack.wait_for_call("chat.startStream")
        slack.clock.advance(301)
        await slack.wait_for_call("chat.update")
        await slack.wait_quiet()
    (reply,) = slack.messages(general, by=slack.bot)
    assert reply.text == STORY


async def test_words_taken_back_by_the_cleaning_leave_the_message_too(
    stage: Stage, general: Channel, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    slack = stage.slack
    monkeypatch.setattr(draft, "APPEND_SECONDS", 0.0)
    stage.model.reply_with("I am well \nUser : and you? \nFriend: fine")
    stage.model.delay = 0.1
    async with stage.bot():
        await slack.say(general, alice, f"{slack.bot.mention} how are you?")
        reply = await slack.wait_for_message(general)
        await slack.wait_quiet()
    assert any("User" in piece for (stream,) in [slack.streams.all] for piece in stream.pieces)
    assert reply.text == "I am well"
    assert slack.messages(general, by=slack.bot) == [reply]


async def test_readers_stop_button_is_obeyed(stage: Stage, general: Channel, alice: User) -> None:
    slack = stage.slack
    stage.model.reply_with(STORY)
    stage.model.delay = 0.1
    async with stage.bot():
        await slack.say(general, alice, f"{slack.bot.mention} tell me a story")
        await slack.wait_for_call("chat.appendStream")
        (stream,) = slack.streams.all
        slack.streams.stop_by_user(stream.message)
        seen = stream.message.text
        await slack.wait_for_call("chat.update")
        await slack.wait_quiet()
    (reply,) = slack.messages(general, by=slack.bot)
    assert reply.text == seen
    assert STORY.startswith(seen)


@pytest.mark.parametrize("method", ["chat.startStream", "chat.appendStream", "chat.stopStream"])
@pytest.mark.parametrize("fault", ["lost", "html", "reset", "ratelimited"])
async def test_trouble_while_streaming_costs_nothing_and_doubles_nothing(
    stage: Stage, general: Channel, alice: User, method: str, fault: str
) -> None:
    slack = stage.slack
    stage.model.reply_with(STORY)
    stage.model.delay = 0.02
    if fault == "html":
        slack.faults.next(method, html=503)
    elif fault == "ratelimited":
        slack.faults.next(method, status=429, retry_after=0)
    else:
        slack.faults.next(method, **{fault: True})  # type: ignore[arg-type]
    async with stage.bot():
        await slack.say(general, alice, f"{slack.bot.mention} tell me a story")
        await slack.wait_for_message(general, containing="w29")
        await slack.wait_quiet()
    (reply,) = slack.messages(general, by=slack.bot)
    assert reply.text == STORY
    assert slack.streams.open == []
    assert slack.faults.pending == 0
    assert slack.statuses.stuck == slack.statuses.late == []
