"""What friend has taken on it sees through: done and said once, whatever breaks on the way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from bot import texts
from bot.errors import StoreFailed
from tests.e2e.crashing import (
    ANSWERS,
    dies_before_it_acts,
    dies_within_the_deed,
    make_old,
    promises,
)
from tests.fakes.discord import Refusal, Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.discord.harness import Stage
    from tests.fakes.discord import Channel, Message, User

pytestmark = pytest.mark.e2e

POSTS = ("POST", "/channels/*/messages")


async def said_of(stage: Stage, said: Message, expected: int = 1) -> list[str]:
    """Friend's answers to a message, once there are so many."""

    def probe() -> list[Message]:
        return [m for m in said.channel.posted(stage.discord.bot) if m.reference is said]

    await stage.discord.wait_until(lambda: len(probe()) >= expected, 20, "friend's answer")
    return [message.content for message in probe()]


@pytest.mark.parametrize("command", ANSWERS)
async def test_25_killed_after_the_deed_it_is_said_by_the_next_process(
    stage: Stage, general: Channel, alice: User, command: str
) -> None:
    discord = stage.discord
    async with stage.bot() as running:
        await stage.ask(general, alice, "plums")
        await running.idle()
        with pytest.MonkeyPatch.context() as patch:
            dies_before_it_acts(running, patch)
            asked = await discord.say(general, alice, f"{discord.bot.mention} {command}".strip())
            await running.heard(2)
    async with stage.bot() as running:
        assert await said_of(stage, asked) == [ANSWERS[command]]
        await discord.redeliver(asked)
        await running.idle()
        await stage.ask(general, alice, "and now?")
    assert await said_of(stage, asked) == [ANSWERS[command]]
    left = [] if command in {"reset", "forget me"} else ["user: plums", "assistant: I heard: plums"]
    assert stage.prompt() == [*left, "user: and now?"]


@pytest.mark.parametrize("command", ["reset", "forget me", "again", ""])
async def test_25_killed_within_the_deed_it_is_done_when_friend_is_back(
    stage: Stage, general: Channel, alice: User, command: str
) -> None:
    discord = stage.discord
    async with stage.bot() as running:
        await stage.ask(general, alice, "plums")
        await running.idle()
        with pytest.MonkeyPatch.context() as patch:
            broke = dies_within_the_deed(patch)
            asked = await discord.say(general, alice, f"{discord.bot.mention} {command}".strip())
            await discord.wait_until(lambda: broke)
    async with stage.bot():
        assert await said_of(stage, asked) == [ANSWERS[command]]


async def test_25_again_keeps_the_old_answer_until_the_new_one_is_there(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot() as running:
        await stage.ask(general, alice, "plums")
        stage.model.faults.status(500, times=9)
        await stage.ask(general, alice, "again")
        stage.model.faults.clear()
        await stage.ask(general, alice, "thanks")
        await running.idle()
    assert stage.prompt() == ["user: plums", "assistant: I heard: plums", "user: thanks"]


async def test_24_what_came_too_late_is_said_to_be_so(
    stage: Stage, general: Channel, alice: User, tmp_path: Path
) -> None:
    discord = stage.discord
    stage.model.first_delay = 60
    async with stage.bot(FRIEND_DRAIN_SECONDS="0") as running:
        for word in ("one", "two"):
            said = await discord.say(general, alice, f"{discord.bot.mention} {word}")
        await running.heard(2)
    make_old(tmp_path)
    async with stage.bot() as running:
        assert await said_of(stage, said) == [texts.TOO_LATE]
        await running.idle()
    assert [m.content for m in general.posted(discord.bot)] == [texts.TOO_LATE]
    assert promises(tmp_path) == ["done", "done"]


async def test_24_words_that_discord_refuses_are_owned_up_to(
    stage: Stage, general: Channel, alice: User, tmp_path: Path
) -> None:
    refusal = Refusal(400, 50035, "Invalid Form Body")
    stage.discord.faults.next(*POSTS, refusal)
    async with stage.bot() as running:
        reply = await stage.ask(general, alice, "hello")
        await running.idle()
    assert reply.content == texts.UNSAYABLE
    assert promises(tmp_path) == ["failed"]


async def test_24_a_place_that_takes_nothing_costs_a_clear_line(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.discord.faults.next(*POSTS, Refusal(), times=9)
    with structlog.testing.capture_logs() as logs:
        async with stage.bot() as running:
            await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
            await running.heard(1)
            await running.idle()
    (told,) = [entry for entry in logs if entry["event"] == "reply.undelivered"]
    assert "friend may not post in channel" in told["error"]


@pytest.mark.parametrize("call", ["window", "begin_posting", "finish"])
async def test_26_a_history_that_is_down_for_a_moment_costs_nothing(
    stage: Stage, general: Channel, alice: User, call: str, tmp_path: Path
) -> None:
    async with stage.bot() as running:
        real, failures = getattr(running.bot.store, call), list[int]()

        async def fails_three_times(*args: Any, **kwargs: Any) -> Any:
            if len(failures) < 3:
                failures.append(1)
                raise StoreFailed("The history file is locked by another program.")
            return await real(*args, **kwargs)

        stage.monkeypatch.setattr(running.bot.store, call, fails_three_times)
        stage.monkeypatch.setattr("bot.core.responder.HISTORY_PAUSES", (0.01,))
        said = await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
        await running.heard(1)
        await running.idle()
        assert await said_of(stage, said) == ["I heard: hello"]
    assert len(failures) == 3
    assert promises(tmp_path) == ["done"]


async def test_26_a_history_that_stays_down_is_said_once(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot() as running:

        async def fails(*args: Any, **kwargs: Any) -> Any:
            raise StoreFailed("The history file is damaged.")

        stage.monkeypatch.setattr(running.bot.store, "window", fails)
        stage.monkeypatch.setattr("bot.core.responder.HISTORY_PAUSES", (0.01,))
        stage.monkeypatch.setattr("bot.core.responder.HISTORY_SECONDS", 0.1)
        said = await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
        await running.heard(1)
        await running.idle()
        assert await said_of(stage, said) == [texts.HISTORY_DOWN]


@pytest.mark.parametrize("broken", ["show", "deliver", "working"])
async def test_21_a_defect_on_the_way_is_tried_over(
    stage: Stage, general: Channel, alice: User, broken: str, tmp_path: Path
) -> None:
    from bot.platforms.discord.outlet import DiscordOutlet

    real, failures = getattr(DiscordOutlet, broken), list[int]()

    def breaks_once(*args: Any, **kwargs: Any) -> Any:
        if not failures:
            failures.append(1)
            raise RuntimeError("a defect")
        return real(*args, **kwargs)

    stage.monkeypatch.setattr(DiscordOutlet, broken, breaks_once)
    stage.monkeypatch.setattr("bot.core.responder.CRASH_PAUSES", (0.01, 0.01))
    async with stage.bot() as running:
        reply = await stage.ask(general, alice, "hello")
        await running.idle()
    assert reply.content == "I heard: hello"
    assert failures == [1]
    assert promises(tmp_path) == ["done"]


async def test_21_a_defect_that_stays_is_said_and_closed(
    stage: Stage, general: Channel, alice: User, tmp_path: Path
) -> None:
    from bot.platforms.discord.outlet import DiscordOutlet

    def breaks(*args: Any) -> Any:
        raise RuntimeError("a defect")

    stage.monkeypatch.setattr(DiscordOutlet, "working", breaks)
    stage.monkeypatch.setattr("bot.core.responder.CRASH_PAUSES", (0.01, 0.01))
    async with stage.bot() as running:
        reply = await stage.ask(general, alice, "hello")
        await running.idle()
    assert reply.content.startswith("Something in me broke")
    assert promises(tmp_path) == ["failed"]


async def test_29_nothing_is_overtaken_while_the_history_is_down(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot() as running:
        real, failures = running.bot.store.window, list[int]()

        async def fails_for_a_while(*args: Any, **kwargs: Any) -> Any:
            if len(failures) < 2:
                failures.append(1)
                raise StoreFailed("The history file is locked by another program.")
            return await real(*args, **kwargs)

        stage.monkeypatch.setattr(running.bot.store, "window", fails_for_a_while)
        stage.monkeypatch.setattr("bot.core.responder.HISTORY_PAUSES", (0.05,))
        for word in ("one", "two", "three"):
            await stage.discord.say(general, alice, f"{stage.discord.bot.mention} {word}")
        await running.heard(3)
        await running.idle()
    assert [m.content for m in general.posted(stage.discord.bot)] == [
        f"I heard: {word}" for word in ("one", "two", "three")
    ]


async def test_22_an_answer_leaves_the_prompt_with_what_it_answers(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot() as running:
        said = await stage.discord.say(
            general, alice, f"{stage.discord.bot.mention} my PIN is 1234"
        )
        await stage.reply_to(said)
        await running.idle()
        await stage.discord.delete(said)
        await stage.ask(general, alice, "and now?")
    assert stage.prompt() == ["user: and now?"]


async def test_22_a_draft_goes_with_what_it_would_answer_also_after_a_kill(
    stage: Stage, general: Channel, alice: User
) -> None:
    from bot.platforms.discord.outlet import Pace

    discord = stage.discord
    stage.model.reply_with(" ".join(["plums"] * 100))
    stage.model.delay = 0.2
    pace = Pace(first_show_seconds=0.05, edit_seconds=0.1)
    async with stage.bot(pace, FRIEND_DRAIN_SECONDS="0") as running:
        said = await discord.say(general, alice, f"{discord.bot.mention} tell me of plums")
        draft = await stage.reply_to(said)
        await running.bot.store.delete("discord", str(general.id), str(said.id))
    assert not draft.deleted
    async with stage.bot():
        await discord.wait_until(lambda: draft.deleted, 20, "the draft's end")


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
    discord = stage.discord
    discord.world.allowed_intents |= 1 << 15
    async with stage.bot(DISCORD_MESSAGE_CONTENT="true"):
        thread = discord.add_thread(general, "aside", alice)
        said = await discord.say(thread, alice, f"{discord.bot.mention} {before}".strip())
        assert (await stage.reply_to(said)).content == own
        follow = await discord.say(thread, alice, "thank you, but I feel alone")
        assert (await stage.reply_to(follow)).content == "I heard: thank you, but I feel alone"


async def test_17_plain_again_after_an_apology_in_a_thread(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    discord.world.allowed_intents |= 1 << 15
    async with stage.bot(DISCORD_MESSAGE_CONTENT="true"):
        thread = discord.add_thread(general, "aside", alice)
        stage.model.faults.status(500, times=2)
        assert "say `again`" in (await stage.ask(thread, alice, "plums")).content
        again = await discord.say(thread, alice, "again")
        assert (await stage.reply_to(again)).content == "I heard: plums"


async def test_18_a_message_that_cannot_be_parsed_costs_only_itself(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    assert general.guild is not None
    other = general.guild.add_text_channel("other")
    before = await discord.say(general, alice, f"{discord.bot.mention} before")
    odd = await discord.say(general, alice, f"{discord.bot.mention} odd")
    after = await discord.say(general, alice, f"{discord.bot.mention} after")
    elsewhere = await discord.say(other, alice, f"{discord.bot.mention} elsewhere")
    real = discord.world.rest_message

    def without_author(message: Message) -> Any:
        payload = real(message)
        return {"id": payload["id"]} if message is odd else payload

    stage.monkeypatch.setattr(discord.world, "rest_message", without_author)
    async with stage.bot() as running:
        for said in (before, after, elsewhere):
            await stage.reply_to(said)
        await running.idle()
    assert len(general.posted(discord.bot)) == 2


@pytest.mark.parametrize("described", ["only by its id", "not at all"])
async def test_20_a_command_without_a_known_channel_resets_no_other(
    stage: Stage, general: Channel, alice: User, described: str
) -> None:
    discord = stage.discord
    real = discord.interactions._payload

    def bare(*args: Any) -> Any:
        payload = real(*args)
        payload["channel"] = {"id": payload["channel"]["id"]}
        if described == "not at all":
            del payload["channel"]
        return payload

    stage.monkeypatch.setattr(discord.interactions, "_payload", bare)
    async with stage.bot():
        await stage.ask(general, alice, "plums")
        answer = await (await discord.slash(general, alice, "reset")).wait_for_response()
        await stage.ask(general, alice, "and now?")
    if described == "not at all":
        assert answer.content == texts.WHERE_ARE_WE
        assert stage.prompt()[0] == "user: plums"
    else:
        assert answer.content == texts.RESET_DONE
        assert stage.prompt() == ["user: and now?"]


async def test_27_a_look_back_that_failed_is_made_up_for_while_connected(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    stage.monkeypatch.setattr("bot.platforms.discord.missed.AGAIN_SECONDS", (0.1, 0.2))
    refused = discord.faults.next("GET", f"/channels/{general.id}/messages", Status(503), times=9)
    missed = await discord.say(general, alice, f"{discord.bot.mention} while you were away")
    async with stage.bot() as running:
        await discord.wait_until(lambda: refused.hits >= 4)
        live = await discord.say(general, alice, f"{discord.bot.mention} are you back?")
        for said in (live, missed):
            await stage.reply_to(said)
        await running.idle()
    assert len(discord.gateway.sessions) == 1
    assert len(general.posted(discord.bot)) == 2


async def test_28_two_processes_on_one_history_do_not_talk_over_each_other(
    stage: Stage, general: Channel, alice: User
) -> None:
    discord = stage.discord
    stage.model.first_delay = 0.5
    async with stage.bot(FRIEND_ACCESS_QUEUE_DEPTH="100"), stage.bot() as second:
        for number in range(6):
            await discord.say(general, alice, f"{discord.bot.mention} {number}")
            await asyncio.sleep(0.05)
        await discord.wait_until(lambda: len(general.posted(discord.bot)) == 6, 60)
        await second.idle()
    assert [m.content for m in general.posted(discord.bot)] == [f"I heard: {n}" for n in range(6)]
    assert len(stage.model.answered) == 6


async def test_28_a_process_that_starts_leaves_what_another_is_at_alone(
    stage: Stage, general: Channel, alice: User
) -> None:
    from bot.platforms.discord.outlet import Pace

    discord = stage.discord
    words = " ".join(f"word{number}" for number in range(30))
    stage.model.reply_with(words)
    stage.model.delay = 0.1
    async with stage.bot(Pace(first_show_seconds=0.1)):
        said = await discord.say(general, alice, f"{discord.bot.mention} a story")
        draft = await stage.reply_to(said)
        async with stage.bot() as second:
            await discord.wait_until(lambda: draft.content == words, 30)
            await second.idle()
    assert general.posted(discord.bot) == [draft]
    assert len(stage.model.requests) == 1
