"""Everything that goes wrong between Discord, friend and the model: answered once, or said."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from bot import texts
from bot.errors import BadToken, MissingIntent
from bot.platforms.discord.outlet import Pace
from bot.stores import open_store
from tests.fakes.discord import CloudflareBan, LostResponse, RateLimited, Refusal, Reset, Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.discord.harness import Stage
    from tests.fakes.discord import Channel, User
    from tests.fakes.discord.faults import Fault

pytestmark = pytest.mark.e2e

POST = ("POST", "/channels/*/messages")
DRAFTS = Pace(first_show_seconds=0.1, edit_seconds=0.1)


async def test_duplicate_delivery_gets_one_reply(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot() as running:
        said = await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
        await stage.discord.redeliver(said)
        await stage.reply_to(said)
        await stage.discord.redeliver(said)
        await stage.ask(general, alice, "next")
        await running.idle()
    assert len(general.posted(stage.discord.bot)) == 2
    assert running.log.received_.count("duplicate") == 2


async def test_redelivery_after_a_restart_gets_no_second_reply(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot():
        said = await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
        await stage.reply_to(said)
    async with stage.bot() as running:
        await stage.discord.redeliver(said)
        await stage.ask(general, alice, "next")
        await running.idle()
    assert len(general.posted(stage.discord.bot)) == 2


async def test_gateway_drop_and_resume_lose_and_repeat_nothing(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.discord.gateway.overlap_on_resume = 3
    async with stage.bot() as running:
        session = stage.discord.gateway.connected[0]
        await stage.ask(general, alice, "before")
        await stage.discord.gateway.drop()
        missed = await stage.discord.say(general, alice, f"{stage.discord.bot.mention} meanwhile")
        await stage.discord.gateway.wait_resumed(session)
        await stage.reply_to(missed)
        await stage.ask(general, alice, "after")
        await running.idle()
    posted = [m.content for m in general.posted(stage.discord.bot)]
    assert posted == ["I heard: before", "I heard: meanwhile", "I heard: after"]


async def test_payload_that_cannot_be_parsed_is_survived(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot() as running:
        await stage.ask(general, alice, "before")
        stage.discord.gateway.send_raw("MESSAGE_CREATE", {"id": "1"})
        await stage.discord.wait_until(lambda: len(stage.discord.gateway.sessions) == 2)
        reply = await stage.ask(general, alice, "after")
        await running.idle()
    assert reply.content == "I heard: after"


async def test_reply_under_way_outlives_a_crash_of_the_gateway_client(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot() as running:
        with stage.model.held():
            said = await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
            await running.heard(1)
            stage.discord.gateway.send_raw("MESSAGE_CREATE", {"id": "1"})
            await stage.discord.wait_until(lambda: len(stage.discord.gateway.sessions) == 2)
        await stage.reply_to(said)
        await running.idle()
    assert len(general.posted(stage.discord.bot)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        RateLimited(0.1, "user"),
        RateLimited(0.1, "global"),
        RateLimited(0.1, "shared"),
        CloudflareBan(),
        Status(502),
        Status(503),
        Status(520),
        Status(522),
        Reset(),
        LostResponse(),
    ],
    ids=str,
)
async def test_trouble_with_posting_gives_one_reply(
    stage: Stage, general: Channel, alice: User, fault: Fault
) -> None:
    times = 1 if fault == Status(502) else 2
    planned = stage.discord.faults.next(*POST, fault, times=times)
    async with stage.bot() as running:
        reply = await stage.ask(general, alice, "hello")
        await running.idle()
    assert planned.hits == times
    assert reply.content == "I heard: hello"
    assert len(general.posted(stage.discord.bot)) == 1
    assert running.log.replied_ == ["answered"]


@pytest.mark.parametrize("fault", [Status(503), Reset(), LostResponse(), RateLimited(0.1)], ids=str)
async def test_trouble_with_a_draft_gives_one_reply(
    stage: Stage, general: Channel, alice: User, fault: Fault
) -> None:
    stage.model.delay = 0.05
    said = " ".join(f"word{n}" for n in range(20))
    stage.model.reply_with(said)
    stage.discord.faults.next(*POST, fault)
    stage.discord.faults.next("PATCH", "/channels/*/messages/*", fault, times=3)
    async with stage.bot(DRAFTS) as running:
        await stage.ask(general, alice, "hello")
        await running.idle()
    assert [m.content for m in general.posted(stage.discord.bot)] == [said]


async def test_discord_out_for_longer_than_one_call_takes(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.discord.faults.next(*POST, LostResponse())
    stage.discord.faults.next(*POST, status=503, times=5)
    async with stage.bot() as running:
        await stage.ask(general, alice, "hello")
        await running.idle()
    assert [m.content for m in general.posted(stage.discord.bot)] == ["I heard: hello"]
    assert running.log.replied_ == ["answered"]


async def test_model_down_is_said_in_one_sentence_and_the_message_still_counts(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.model.faults.status(500, times=2)
    async with stage.bot() as running:
        sorry = await stage.ask(general, alice, "I like plums")
        assert re.fullmatch(r"I can't think just now\. .* \([0-9a-f]{8}\)", sorry.content)
        again = await stage.ask(general, alice, "again")
        await stage.ask(general, alice, "what do I like?")
        await running.idle()
    assert again.content == "I heard: I like plums"
    assert stage.prompt() == [
        "user: I like plums",
        "assistant: I heard: I like plums",
        "user: what do I like?",
    ]


async def test_model_unreachable_is_said(stage: Stage, general: Channel, alice: User) -> None:
    await stage.model.down()
    async with stage.bot():
        sorry = await stage.ask(general, alice, "hello")
    assert sorry.content.startswith("I can't think just now.")


async def test_model_that_breaks_off_after_a_draft(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.model.delay = 0.05
    stage.model.reply_with(" ".join(["plums"] * 12))
    stage.model.faults.drop(after_words=8)
    async with stage.bot(DRAFTS) as running:
        await stage.ask(general, alice, "hello")
        await running.idle()
    posted = general.posted(stage.discord.bot)
    assert len(posted) == 1
    assert running.log.replied_ in (["answered"], ["apologised"])


async def test_channel_friend_may_not_post_in_does_not_hold_up_the_others(
    stage: Stage, general: Channel, alice: User
) -> None:
    assert general.guild is not None
    mute = general.guild.add_text_channel("mute")
    mute.denied.add("send")
    async with stage.bot() as running:
        await stage.discord.say(mute, alice, f"{stage.discord.bot.mention} hello")
        reply = await stage.ask(general, alice, "hello")
        await running.idle()
    assert reply.content == "I heard: hello"
    assert mute.posted(stage.discord.bot) == []
    assert sorted(running.log.replied_) == ["answered", "undelivered"]


async def test_channel_with_hidden_history_gets_a_plain_message(
    stage: Stage, general: Channel, alice: User
) -> None:
    general.denied.add("history")
    async with stage.bot():
        await stage.discord.say(general, alice, f"{stage.discord.bot.mention} hello")
        reply = await stage.discord.wait_for_message(general)
    assert reply.content == "I heard: hello"
    assert reply.reference is None


async def test_question_deleted_meanwhile_is_not_answered(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot() as running:
        with stage.model.held():
            said = await stage.discord.say(general, alice, f"{stage.discord.bot.mention} oops")
            await running.heard(1)
            (conversation,) = await running.bot.store.recent("discord", limit=2)
            await stage.discord.delete(said)
            async with asyncio.timeout(20):
                while await running.bot.store.window(conversation):
                    await asyncio.sleep(0.01)
        await running.idle()
    assert general.posted(stage.discord.bot) == []


async def test_draft_deleted_by_a_moderator_stays_deleted(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.model.delay = 0.05
    stage.model.reply_with(" ".join(["plums"] * 20))
    async with stage.bot(DRAFTS) as running:
        draft = await stage.ask(general, alice, "hello")
        await stage.discord.delete(draft)
        await running.idle()
    assert general.posted(stage.discord.bot) == []


async def test_endless_message_is_read_in_part(stage: Stage, alice: User) -> None:
    dm = stage.discord.dm(alice)
    async with stage.bot():
        said = await stage.discord.say(dm, alice, "la " * 33_000)
        await stage.reply_to(said)
    assert len(stage.prompt()[0]) < 2100


async def test_closed_direct_messages_are_survived(
    stage: Stage, general: Channel, alice: User
) -> None:
    alice.dms_closed = True
    async with stage.bot() as running:
        await stage.discord.say(stage.discord.dm(alice), alice, "hello")
        await stage.ask(general, alice, "hello")
        await running.idle()
    assert sorted(running.log.replied_) == ["answered", "undelivered"]


async def test_locked_history_is_said_and_friend_goes_on_when_it_is_free(
    stage: Stage, general: Channel, alice: User, tmp_path: Path
) -> None:
    impatient = partial(open_store, patience_seconds=0.2)
    stage.monkeypatch.setattr("bot.app.open_store", impatient)
    async with stage.bot() as running:
        await stage.ask(general, alice, "one")
        await running.idle()
        with closing(sqlite3.connect(tmp_path / "history.sqlite3")) as another_program:
            another_program.execute("BEGIN EXCLUSIVE")
            sorry = await stage.ask(general, alice, "two")
            another_program.rollback()
        again = await stage.ask(general, alice, "three")
    assert sorry.content == texts.HISTORY_DOWN
    assert again.content == "I heard: three"
    assert stage.prompt() == ["user: one", "assistant: I heard: one", "user: three"]


async def test_unknown_interaction_is_survived(stage: Stage, general: Channel, alice: User) -> None:
    stage.discord.faults.next("POST", "/interactions/*", Refusal(404, 10062, "Unknown interaction"))
    async with stage.bot():
        await stage.ask(general, alice, "remember the plums")
        await stage.discord.slash(general, alice, "reset")
        await stage.discord.wait_until(
            lambda: any(
                r.path.startswith("/webhooks/") and r.status for r in stage.discord.requests
            )
        )
        await stage.ask(general, alice, "what did I say?")
    assert stage.prompt() == ["user: what did I say?"]


async def test_acknowledgement_whose_response_is_lost(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.discord.faults.next("POST", "/interactions/*", LostResponse())
    async with stage.bot():
        await stage.ask(general, alice, "remember the plums")
        interaction = await stage.discord.slash(general, alice, "reset")
        answer = await interaction.wait_for_response()
    assert answer.content == texts.RESET_DONE


async def test_wrong_token_is_explained(stage: Stage) -> None:
    with pytest.raises(BadToken, match="developer portal"):
        async with stage.bot(DISCORD_TOKEN="wrong"):
            pass


async def test_token_revoked_while_running_is_explained(stage: Stage) -> None:
    async with stage.bot() as running:
        stage.discord.world.token = "another"
        await stage.discord.gateway.close(4004)
        with pytest.raises(BadToken, match="developer portal"):
            await asyncio.wait_for(asyncio.shield(running.task), 20)


async def test_missing_intent_is_explained(stage: Stage) -> None:
    with pytest.raises(MissingIntent, match="DISCORD_MESSAGE_CONTENT"):
        async with stage.bot(DISCORD_MESSAGE_CONTENT="true"):
            pass


async def test_discord_unreachable_at_the_start_is_waited_for(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.discord.faults.next("GET", "/users/@me", status=503, times=6)
    stage.discord.gateway.refuse_connections = True

    async def relent() -> None:
        await stage.discord.wait_until(lambda: stage.discord.gateway.refused or None)
        stage.discord.gateway.refuse_connections = False

    task = asyncio.create_task(relent())
    async with stage.bot():
        await task
        reply = await stage.ask(general, alice, "there you are")
    assert reply.content == "I heard: there you are"


async def test_shards_are_used_once_discord_demands_them(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.discord.gateway.require_shards = True
    async with stage.bot():
        reply = await stage.ask(general, alice, "so many servers")
    assert reply.content == "I heard: so many servers"
    assert stage.discord.gateway.sessions[0].shard == (0, 1)
