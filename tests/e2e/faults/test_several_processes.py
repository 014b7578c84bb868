"""Two processes on one PostgreSQL, killed at random: each message answered once, and in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.bot.stores.postgres import PostgresServer, binaries
from tests.e2e.discord.harness import Stage
from tests.e2e.faults.test_campaign import UNHURRIED, keep_going
from tests.e2e.harness import environment_of
from tests.fakes.discord import FakeDiscord
from tests.fakes.model import FakeModel

if TYPE_CHECKING:
    from pathlib import Path

MESSAGES = 40

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.postgres, pytest.mark.timeout(400)]


@pytest.fixture
def database() -> Iterator[str]:
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed (Debian: postgresql)")
    server = PostgresServer(found)
    server.start()
    yield server.url()
    server.remove()


async def test_28_two_discord_processes_answer_each_message_once_and_in_order(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(28)
    async with FakeDiscord() as discord, FakeModel() as model:
        environment = {
            "DISCORD_TOKEN": discord.token,
            **environment_of(model, tmp_path),
            **UNHURRIED,
            "FRIEND_STORE_URL": database,
        }
        stage = Stage(model, environment, monkeypatch, discord)
        model.delay = 0.05
        guild = discord.add_guild("home")
        rooms = [guild.add_text_channel(f"c{number}") for number in range(3)]
        people = [discord.add_user(f"p{number}") for number in range(3)]
        over = asyncio.Event()
        lives: list[list[asyncio.subprocess.Process]] = [[], []]
        keepers = []
        for mine in lives:
            keepers.append(asyncio.create_task(keep_going(stage.child, mine, over)))
            await discord.wait_until(lambda mine=mine: mine, 60, "a bot")
        said: list[Any] = []
        for number in range(MESSAGES):
            text = f"{discord.bot.mention} m{number:04d}x"
            said.append(await discord.say(chance.choice(rooms), chance.choice(people), text))
            if number % 8 == 4:
                victim = chance.choice(lives)[-1]
                if victim.returncode is None:
                    victim.kill()
            await asyncio.sleep(chance.uniform(0.05, 0.4))

        def answers(message: Any) -> list[Any]:
            return [m for m in message.channel.posted(discord.bot) if m.reference is message]

        try:
            await discord.wait_until(lambda: all(map(answers, said)), 120, "every answer")
        finally:
            over.set()
            await asyncio.gather(*keepers)
        assert [m.content for m in said if len(answers(m)) != 1] == []
        for room in rooms:
            order = [m.reference.id for m in room.posted(discord.bot) if m.reference]
            assert order == sorted(order)
