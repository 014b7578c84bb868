"""Talking through llama.cpp's own server; see `tests.e2e.llama_server`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.llama_server import STRICT, llama_server, opted_in, with_template

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.discord.harness import Stage
    from tests.fakes.discord import Channel, User

pytestmark = [pytest.mark.e2e, *opted_in]

LIMITS = {
    "FRIEND_ACCESS_PERSON_PER_MINUTE": "0",
    "FRIEND_ACCESS_CHANNEL_PER_MINUTE": "0",
    "FRIEND_REPLY_MAX_TOKENS": "16",
}


async def test_direct_messages_past_its_context_go_on(stage: Stage, alice: User) -> None:
    dm = stage.discord.dm(alice)
    async with llama_server() as url, stage.bot(FRIEND_MODEL_URL=url, **LIMITS) as running:
        for number in range(10):
            said = await stage.discord.say(dm, alice, f"{number}" + "我今天去了公园看花" * 11)
            await stage.reply_to(said, 60)
        await running.idle()
    posted = dm.posted(stage.discord.bot)
    assert not any(message.content.startswith("I can't think") for message in posted)


async def test_a_strict_template_and_a_name_with_a_space(
    stage: Stage, general: Channel, bob: User, tmp_path: Path
) -> None:
    ada = stage.discord.add_user("Ada Lovelace")
    strict = with_template(tmp_path, STRICT)
    async with llama_server(strict) as url, stage.bot(FRIEND_MODEL_URL=url, **LIMITS) as running:
        for number in range(2):
            for person in (ada, bob):
                text = f"{stage.discord.bot.mention} hello {number}"
                await stage.reply_to(await stage.discord.say(general, person, text), 60)
        await running.idle()
    posted = general.posted(stage.discord.bot)
    assert not any(message.content.startswith("I can't think") for message in posted)
