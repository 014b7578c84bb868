"""Seeded random faults while people talk: every accepted message ends in one finished answer.

`FRIEND_FAULTS` sets how many faults a seed has; `make faults` runs a long campaign.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from bot.platforms.slack import app_manifest
from tests.e2e.discord.harness import Stage as DiscordStage
from tests.e2e.harness import environment_of
from tests.e2e.slack.harness import Stage as SlackStage
from tests.fakes.discord import FakeDiscord, LateResponse, LostResponse, Reset, Status
from tests.fakes.model import FakeModel
from tests.fakes.slack import FakeSlack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FAULTS = int(os.environ.get("FRIEND_FAULTS", "100"))
SEEDS = range(int(os.environ.get("FRIEND_FAULT_SEEDS", "3")))
SECONDS = 3.0
"""Of a fault, with what is needed to get over it, on a slow machine."""

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300 + SECONDS * FAULTS)]

UNHURRIED = {
    "FRIEND_ACCESS_PERSON_PER_MINUTE": "0",
    "FRIEND_ACCESS_CHANNEL_PER_MINUTE": "0",
    "FRIEND_ACCESS_QUEUE_DEPTH": "10000",
    "FRIEND_MODEL_FIRST_WORD_SECONDS": "6",
    "FRIEND_MODEL_NEXT_WORD_SECONDS": "4",
    "FRIEND_DRAIN_SECONDS": "2",
}


def model_faults(model: FakeModel, chance: random.Random) -> list[Callable[[], Any]]:
    return [
        lambda: model.faults.status(chance.choice([500, 503]), times=chance.choice([1, 2])),
        lambda: model.faults.drop(after_words=chance.choice([0, 1, 3])),
        lambda: model.faults.silence(after_words=chance.choice([0, 2])),
        lambda: model.faults.garbage(),
    ]


async def lock_history(folder: Path, chance: random.Random) -> None:
    with closing(sqlite3.connect(folder / "history.sqlite3", isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return
        await asyncio.sleep(chance.uniform(0.5, 2))
        other.execute("ROLLBACK")


def states(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "history.sqlite3", timeout=30)) as history:
        return [state for (state,) in history.execute("SELECT state FROM replies")]


async def settled(folder: Path) -> list[str]:
    """The states of all promises, once nothing is to be done any more."""
    async with asyncio.timeout(150):
        while {"queued", "posting", "withdrawing"} & set(found := states(folder)):
            await asyncio.sleep(0.5)
    return found


async def keep_going(
    start: Callable[[], Any], lives: list[asyncio.subprocess.Process], over: asyncio.Event
) -> None:
    """Start the bot again whenever it has ended."""
    while not over.is_set():
        async with start() as process:
            lives.append(process)
            ending = asyncio.ensure_future(process.wait())
            ended = asyncio.ensure_future(over.wait())
            await asyncio.wait({ending, ended}, return_when=asyncio.FIRST_COMPLETED)
            for waiting in (ending, ended):
                waiting.cancel()


@pytest.mark.parametrize("seed", SEEDS)
async def test_discord(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        discord = await stack.enter_async_context(FakeDiscord())
        model = await stack.enter_async_context(FakeModel())
        environment = {"DISCORD_TOKEN": discord.token, **environment_of(model, tmp_path)}
        stage = DiscordStage(model, {**environment, **UNHURRIED}, monkeypatch, discord)
        discord.gateway.heartbeat_interval = 4.0
        guild = discord.add_guild("home")
        rooms = [guild.add_text_channel(f"c{number}") for number in range(3)]
        people = [discord.add_user(f"p{number}") for number in range(4)]
        lives: list[asyncio.subprocess.Process] = []
        over = asyncio.Event()
        keeper = asyncio.create_task(keep_going(stage.child, lives, over))
        await discord.wait_until(lambda: lives, 60, "the bot")
        posts, any_call = ("POST", "/channels/*/messages"), ("*", "*")
        faults = [
            *model_faults(model, chance),
            lambda: discord.faults.next(*posts, Status(chance.choice([500, 502, 503, 520]))),
            lambda: discord.faults.next(*posts, LostResponse()),
            lambda: discord.faults.next(*posts, LateResponse(chance.uniform(0.2, 2))),
            lambda: discord.faults.next(*any_call, Reset()),
            discord.gateway.drop,
            discord.gateway.reconnect,
            lambda: discord.gateway.invalid_session(resumable=False),
            lambda: lives[-1].kill() if lives[-1].returncode is None else None,
            lambda: lives[-1].terminate() if lives[-1].returncode is None else None,
            lambda: lock_history(tmp_path, chance),
            lambda: discord.redeliver(chance.choice(said)),
        ]
        said: list[Any] = []
        for number in range(FAULTS):
            text = f"{discord.bot.mention} m{number:04d}x tea and rain"
            said.append(await discord.say(chance.choice(rooms), chance.choice(people), text))
            happening = chance.choice(faults)()
            if asyncio.iscoroutine(happening):
                await happening
            await asyncio.sleep(chance.uniform(0.1, 0.6))
        discord.faults.clear()
        model.faults.clear()

        def answers(message: Any) -> list[Any]:
            return [m for m in message.channel.posted(discord.bot) if m.reference is message]

        try:
            await discord.wait_until(lambda: all(map(answers, said)), 150, "every answer")
            assert set(await settled(tmp_path)) == {"done"}
        finally:
            over.set()
            await keeper
        assert [m.content for m in said if len(answers(m)) != 1] == []


@pytest.mark.parametrize("seed", SEEDS)
async def test_slack(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        slack = await stack.enter_async_context(
            FakeSlack(manifest=app_manifest(), ack_seconds=3.0, retry_delays=(0.0, 3.0, 8.0))
        )
        model = await stack.enter_async_context(FakeModel())
        environment = {
            "SLACK_BOT_TOKEN": slack.bot_token,
            "SLACK_APP_TOKEN": slack.app_token,
            **environment_of(model, tmp_path),
        }
        stage = SlackStage(model, {**environment, **UNHURRIED}, monkeypatch, slack)
        people = [slack.add_user(f"p{number}") for number in range(4)]
        rooms = [slack.add_channel(f"c{number}", [*people, slack.bot]) for number in range(3)]
        lives: list[asyncio.subprocess.Process] = []
        over = asyncio.Event()
        keeper = asyncio.create_task(keep_going(stage.child, lives, over))
        async with asyncio.timeout(60):
            while not lives:
                await asyncio.sleep(0.05)

        def web(**fault: Any) -> Callable[[], None]:
            methods = ("chat.postMessage", "chat.startStream", "chat.stopStream", "chat.update")
            return lambda: slack.faults.next(chance.choice(methods), **fault)

        faults = [
            *model_faults(model, chance),
            web(status=503),
            web(status=429, retry_after=1),
            web(ok_false="internal_error"),
            web(html=502),
            web(reset=True),
            web(lost=True),
            web(slow=1.0),
            slack.socket.drop,
            lambda: slack.socket.disconnect("warning"),
            lambda: lives[-1].kill() if lives[-1].returncode is None else None,
            lambda: lock_history(tmp_path, chance),
        ]
        said: list[Any] = []
        for number in range(FAULTS):
            text = f"{slack.bot.mention} m{number:04d}x tea and rain"
            said.append(await slack.say(chance.choice(rooms), chance.choice(people), text))
            happening = chance.choice(faults)()
            if asyncio.iscoroutine(happening):
                await happening
            await asyncio.sleep(chance.uniform(0.1, 0.6))
        slack.faults.clear()
        model.faults.clear()

        def answers(message: Any) -> list[Any]:
            return slack.messages(message.channel, by=slack.bot, thread=message)

        try:
            async with asyncio.timeout(150):
                while not all(answers(message) for message in said):
                    await asyncio.sleep(0.5)
            assert set(await settled(tmp_path)) == {"done"}
        finally:
            over.set()
            await keeper
        assert [m.text for m in said if len(answers(m)) != 1] == []
        assert slack.streams.open == []
