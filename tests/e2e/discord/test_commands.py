"""Slash commands, and the same in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bot import texts
from tests.fakes.discord import Reset

if TYPE_CHECKING:
    from tests.e2e.discord.harness import Stage
    from tests.fakes.discord import Channel, User

pytestmark = pytest.mark.e2e


async def test_reset_puts_the_old_turns_out(stage: Stage, general: Channel, alice: User) -> None:
    async with stage.bot():
        await stage.ask(general, alice, "remember the plums")
        interaction = await stage.discord.slash(general, alice, "reset")
        answer = await interaction.wait_for_response()
        await stage.ask(general, alice, "what did I say?")
    assert answer.content == texts.RESET_DONE
    assert interaction.deferred
    assert interaction.acknowledged_after is not None
    assert interaction.acknowledged_after < 3
    assert not interaction.ephemeral
    assert stage.prompt() == ["user: what did I say?"]


async def test_reset_in_a_thread_leaves_the_channel_alone(
    stage: Stage, general: Channel, alice: User
) -> None:
    async with stage.bot():
        await stage.ask(general, alice, "outside")
        thread = stage.discord.add_thread(general, "aside", alice)
        await stage.ask(thread, alice, "inside")
        interaction = await stage.discord.slash(thread, alice, "reset")
        await interaction.wait_for_response()
        await stage.ask(thread, alice, "inside again")
        assert stage.prompt() == ["user: inside again"]
        await stage.ask(general, alice, "outside again")
    assert stage.prompt()[0] == "user: outside"


async def test_reset_by_mention(stage: Stage, general: Channel, alice: User) -> None:
    async with stage.bot():
        await stage.ask(general, alice, "remember the plums")
        answer = await stage.ask(general, alice, "reset")
        await stage.ask(general, alice, "what did I say?")
    assert answer.content == texts.RESET_DONE
    assert stage.prompt() == ["user: what did I say?"]


async def test_reset_during_a_reply_takes_the_draft_back(
    stage: Stage, general: Channel, alice: User
) -> None:
    from bot.platforms.discord.outlet import Pace

    stage.model.delay = 0.05
    stage.model.reply_with(" ".join(["plums"] * 200))
    async with stage.bot(Pace(first_show_seconds=0.1, edit_seconds=0.1)) as running:
        draft = await stage.ask(general, alice, "tell me of plums")
        interaction = await stage.discord.slash(general, alice, "reset")
        await interaction.wait_for_response()
        await running.idle()
        assert draft.deleted
    assert not any("plums" in m.content for m in general.posted(stage.discord.bot))


async def test_forget_me_is_everywhere_and_private(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    dm = stage.discord.dm(alice)
    async with stage.bot():
        await stage.ask(general, alice, "I live in Oslo")
        await stage.ask(general, bob, "I live in Rome")
        interaction = await stage.discord.slash(dm, alice, "forget-me")
        answer = await interaction.wait_for_response()
        await stage.ask(general, bob, "who lives where?")
    assert answer.content == texts.forgot(1)
    assert interaction.ephemeral
    assert not any("Oslo" in line for line in stage.prompt() if line.startswith("user"))
    assert any("Rome" in line for line in stage.prompt())


async def test_about(stage: Stage, general: Channel, alice: User) -> None:
    async with stage.bot():
        interaction = await stage.discord.slash(general, alice, "about")
        answer = await interaction.wait_for_response()
    assert answer.content == texts.ABOUT
    assert interaction.ephemeral


async def test_commands_are_registered_once_and_again_only_when_changed(stage: Stage) -> None:
    commands = stage.discord.commands
    async with stage.bot():
        assert set(commands.registered) == {"reset", "forget-me", "about"}
        assert all(c["contexts"] == [0, 1] for c in commands.registered.values())
        assert all(c["integration_types"] == [0] for c in commands.registered.values())
    async with stage.bot():
        pass
    assert commands.writes == 1
    commands.registered["about"]["description"] = "an older text"
    async with stage.bot():
        pass
    assert commands.writes == 2
    assert "keeps" in commands.registered["about"]["description"]


async def test_commands_that_cannot_be_registered_do_not_keep_friend_away(
    stage: Stage, general: Channel, alice: User
) -> None:
    stage.discord.faults.next("GET", "/applications/*", Reset(), times=2)
    async with stage.bot():
        reply = await stage.ask(general, alice, "still here?")
    assert reply.content == "I heard: still here?"
    assert stage.discord.commands.writes == 0


async def test_history_down_is_said(
    stage: Stage, general: Channel, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bot.errors import StoreFailed

    async with stage.bot() as running:

        async def broken(*args: object) -> int:
            raise StoreFailed("the disk is full")

        monkeypatch.setattr(running.bot.store, "reset", broken)
        interaction = await stage.discord.slash(general, alice, "reset")
        answer = await interaction.wait_for_response()
    assert answer.content == texts.HISTORY_DOWN


async def test_blocked_people_reset_nothing(
    stage: Stage, general: Channel, alice: User, bob: User
) -> None:
    async with stage.bot(FRIEND_ACCESS_BLOCK_PEOPLE=str(bob.id)):
        await stage.ask(general, alice, "remember the plums")
        answer = await (await stage.discord.slash(general, bob, "reset")).wait_for_response()
        assert answer.content == texts.NOT_FOR_YOU
        await stage.ask(general, alice, "what did I say?")
    assert stage.prompt()[0] == "user: remember the plums"
