"""Talking through llama.cpp's own server; see `tests.e2e.llama_server`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.llama_server import STRICT, llama_server, opted_in, with_template

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.slack.harness import Stage
    from tests.fakes.slack import Channel, User

pytestmark = [pytest.mark.e2e, *opted_in]

LIMITS = {
    "FRIEND_ACCESS_PERSON_PER_MINUTE": "0",
    "FRIEND_ACCESS_CHANNEL_PER_MINUTE": "0",
    "FRIEND_REPLY_MAX_TOKENS": "16",
}


async def test_direct_messages_past_its_context_go_on(stage: Stage, alice: User) -> None:
    slack, dm = stage.slack, stage.slack.dm(alice)
    async with llama_server() as url, stage.bot(FRIEND_MODEL_URL=url, **LIMITS) as running:
        root = None
        for number in range(10):
            said = await slack.say(dm, alice, f"{number}" + "我今天去了公园看花" * 11, thread=root)
            root = root or said
            await slack.wait_for_message(dm, timeout=60)
        await running.idle()
    assert not any(m.text.startswith("I can't think") for m in slack.messages(dm, by=slack.bot))


async def test_a_strict_template_and_a_name_with_a_space(
    stage: Stage, general: Channel, bob: User, tmp_path: Path
) -> None:
    slack = stage.slack
    ada = slack.add_user("ada", "Ada Lovelace")
    slack.join(general, ada)
    strict = with_template(tmp_path, STRICT)
    async with llama_server(strict) as url, stage.bot(FRIEND_MODEL_URL=url, **LIMITS) as running:
        root = None
        for number in range(2):
            for person in (ada, bob):
                text = f"{slack.bot.mention} hello {number}"
                said = await slack.say(general, person, text, thread=root)
                root = root or said
                await slack.wait_for_message(general, timeout=60)
        await running.idle()
    said_all = slack.messages(general, by=slack.bot)
    assert not any(m.text.startswith("I can't think") for m in said_all)
