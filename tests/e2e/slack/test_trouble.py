"""Everything that can go wrong between a person and a reply: answered once, nothing lost."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest

from bot import texts
from bot.errors import StoreFailed
from bot.platforms.slack.socket import SocketTimes

if TYPE_CHECKING:
    from tests.e2e.slack.harness import Stage
    from tests.fakes.slack import Channel, User

pytestmark = pytest.mark.e2e


async def test_duplicate_delivery_is_answered_once(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot() as running:
        asked = await slack.say(general, alice, f"{slack.bot.mention} hi")
        await slack.redeliver(asked)
        await slack.wait_for_message(general)
        again = await slack.redeliver(asked)
        await slack.wait_quiet()
    assert all(delivery.acknowledged for delivery in again)
    assert len(slack.messages(general, by=slack.bot)) == 1
    assert running.log.received_.count("queued") == 1


async def test_redelivery_after_a_restart_is_answered_once(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        asked = await slack.say(general, alice, f"{slack.bot.mention} hi")
        await slack.wait_for_message(general)
        await slack.wait_quiet()
    async with stage.bot():
        await slack.redeliver(asked)
        await slack.wait_quiet()
    assert len(slack.messages(general, by=slack.bot)) == 1


@pytest.mark.parametrize("trouble", ["drop", "stall", "warning", "refresh_requested"])
async def test_socket_is_lost_and_talk_goes_on(
    stage: Stage, general: Channel, alice: User, trouble: Any
) -> None:
    slack = stage.slack
    async with stage.bot():
        if trouble == "drop":
            slack.socket.drop()
        elif trouble == "stall":
            slack.socket.stall()
        else:
            await slack.socket.disconnect(trouble)
        await slack.say(general, alice, f"{slack.bot.mention} still there?")
        reply = await slack.wait_for_message(general)
        await slack.wait_quiet()
    assert reply.text == "I heard: still there?"
    assert slack.messages(general, by=slack.bot) == [reply]
    assert slack.socket.connections >= 2


async def test_deaf_socket_is_replaced(stage: Stage, general: Channel, alice: User) -> None:
    slack = stage.slack
    slack.socket.retry_delays = (0.0, 2.0, 4.0)
    slack.socket.ack_seconds = 0.2
    times = SocketTimes(ping=0.1, grace=5.0, silence=1.0, check=0.05)
    async with stage.bot(times):
        slack.socket.deafen()
        await slack.say(general, alice, f"{slack.bot.mention} can you hear me?")
        reply = await slack.wait_for_message(general)
    assert reply.text == "I heard: can you hear me?"


async def test_dead_tasks_of_the_sdk_are_replaced(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    times = SocketTimes(ping=10.0, grace=0.3, silence=60.0, check=0.05)
    async with stage.bot(times):
        sdk = {"receive_messages", "monitor_current_session"}
        for task in asyncio.all_tasks():
            if getattr(task.get_coro(), "__name__", "") in sdk:
                task.cancel()
        await slack.socket.wait_connected(2)
        await slack.say(general, alice, f"{slack.bot.mention} still there?")
        reply = await slack.wait_for_message(general)
    assert reply.text == "I heard: still there?"


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "retry_after": 1},
        {"status": 500},
        {"html": 502},
        {"html": 503, "times": 2},
        {"ok_false": "internal_error"},
        {"reset": True, "times": 2},
        {"lost": True},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())) + "-" + next(iter(fault)),
)
async def test_posting_trouble_ends_in_one_reply(
    stage: Stage,
    general: Channel,
    alice: User,
    fault: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slack = stage.slack
    monkeypatch.setattr("bot.core.attempt.POST_AGAIN_AFTER", (0.1, 0.1))
    monkeypatch.setattr("bot.platforms.slack.outlet.LOOK_AFTER_SECONDS", 0.1)
    slack.streams.refused = True
    slack.faults.next("chat.postMessage", **fault)
    async with stage.bot():
        await slack.say(general, alice, f"{slack.bot.mention} hi")
        reply = await slack.wait_for_message(general)
        await slack.wait_quiet(0.5)
    assert reply.text == "I heard: hi"
    assert slack.messages(general, by=slack.bot) == [reply]
    assert slack.statuses.stuck == []


async def test_name_that_cannot_be_learnt_does_not_hold_a_message_up(
    stage: Stage, alice: User
) -> None:
    slack = stage.slack
    slack.faults.next("users.info", hang=3)
    async with stage.bot():
        await slack.say(slack.dm(alice), alice, "hi")
        assert (await slack.wait_for_message(slack.dm(alice))).text == "I heard: hi"
    assert stage.model.requests[0]["messages"][0]["name"] == "someone"


async def test_model_down_is_one_sentence_and_the_message_counts_later(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    async with stage.bot():
        await stage.model.down()
        root = await slack.say(general, alice, f"{slack.bot.mention} I am Al")
        apology = await slack.wait_for_message(general)
        await stage.model.up()
        await slack.say(general, alice, f"{slack.bot.mention} again", thread=root)
        reply = await slack.wait_for_message(general)
        await slack.say(general, alice, "who am I?", thread=root)
        await slack.wait_for_message(general)
    assert apology.text.startswith("I can't think just now.")
    assert reply.text == "I heard: I am Al"
    assert stage.prompt() == [
        ("user", "I am Al"),
        ("assistant", "I heard: I am Al"),
        ("user", "who am I?"),
    ]


async def test_unacknowledged_until_it_is_stored(
    stage: Stage, general: Channel, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bot that dies between hearing and storing is told again."""
    slack = stage.slack
    async with stage.bot() as running:

        async def die(message: object) -> None:
            monkeypatch.undo()
            raise RuntimeError("killed here")

        monkeypatch.setattr(running.bot.friend, "on_message", die)
        asked = await slack.say(slack.dm(alice), alice, "hi")
        assert (await slack.wait_for_message(slack.dm(alice))).text == "I heard: hi"
        assert running.platform.is_connected
        (delivery,) = slack.deliveries_of(asked)
        assert delivery.attempts[:2] == ["first", "timeout"]


@pytest.mark.parametrize("moment", ["thinking", "streaming", "posting"])
async def test_kill_9_in_a_reply_and_restart_answers_exactly_once(
    stage: Stage, general: Channel, alice: User, moment: str
) -> None:
    slack = stage.slack
    story = " ".join(f"w{number}" for number in range(20))
    stage.model.reply_with(story)
    if moment == "thinking":
        stage.model.first_delay = 30
    elif moment == "streaming":
        stage.model.delay = 0.5
    else:
        slack.streams.refused = True
        slack.faults.next("chat.postMessage", lost=True)
    async with stage.child() as process:
        await slack.say(general, alice, f"{slack.bot.mention} tell me a story")
        awaited = {
            "thinking": "assistant.threads.setStatus",
            "streaming": "chat.startStream",
            "posting": "chat.postMessage",
        }
        await slack.wait_for_call(awaited[moment])
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    stage.model.first_delay = stage.model.delay = 0.0
    async with stage.bot():
        async with asyncio.timeout(30):
            while [m.text for m in slack.messages(general, by=slack.bot)] != [story]:
                await asyncio.sleep(0.05)
        await slack.wait_quiet(1.0)
    (reply,) = slack.messages(general, by=slack.bot)
    assert (reply.text, reply.finished) == (story, True)
    assert slack.streams.open == []


async def test_what_waited_for_friend_to_start_is_answered_once(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    roots = [
        await slack.say(general, alice, f"{slack.bot.mention} are you up {number}?")
        for number in range(5)
    ]
    async with stage.bot() as running:
        for _ in roots:
            await slack.wait_for_message(general)
        await slack.wait_quiet(0.5)
    assert sorted(m.root_ts for m in slack.messages(general, by=slack.bot)) == [
        root.ts for root in roots
    ]
    assert running.log.replied_ == ["answered"] * 5
    assert slack.statuses.late == []


async def test_a_reply_cut_short_by_a_stop_is_completed_after_the_start(
    stage: Stage, general: Channel, alice: User
) -> None:
    slack = stage.slack
    story = " ".join(f"w{number}" for number in range(20))
    stage.model.reply_with(story)
    stage.model.delay = 0.5
    async with stage.bot(FRIEND_DRAIN_SECONDS="0"):
        await slack.say(general, alice, f"{slack.bot.mention} tell me a story")
        await slack.wait_for_call("chat.startStream")
        await slack.wait_quiet()
    stage.model.delay = 0.0
    async with stage.bot():
        await slack.wait_for_message(general, containing="w19")
        await slack.wait_quiet(0.5)
    (reply,) = slack.messages(general, by=slack.bot)
    assert reply.text == story
    assert slack.streams.open == []


async def test_history_down_is_said_and_the_thread_goes_on_later(
    stage: Stage, general: Channel, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    slack = stage.slack

    async def down(*args: object, **kwargs: object) -> None:
        raise StoreFailed("The history is out of space.")

    async with stage.bot() as running:
        root = await slack.say(general, alice, f"{slack.bot.mention} hi")
        await slack.wait_for_message(general)
        with monkeypatch.context() as patch:
            for method in ("accept", "first_sight", "is_friend_thread", "edit"):
                patch.setattr(running.bot.store, method, down)
            await slack.say(general, alice, f"{slack.bot.mention} still there?", thread=root)
            assert (await slack.wait_for_message(general)).text == texts.HISTORY_DOWN
            await slack.edit(root, f"{slack.bot.mention} hi you")
            await asyncio.sleep(0.1)
        await slack.say(general, alice, "and now?", thread=root)
        assert (await slack.wait_for_message(general)).text == "I heard: and now?"
        await slack.wait_delivered()
    assert all(delivery.acknowledged for delivery in slack.deliveries)


async def test_events_friend_has_no_use_for_are_acknowledged(stage: Stage, alice: User) -> None:
    slack = stage.slack
    slack.socket.ack_seconds = 20.0
    async with stage.bot():
        await slack.open_home(alice)
        await slack.wait_delivered()
    assert [delivery.attempts for delivery in slack.deliveries] == [["first"]]
