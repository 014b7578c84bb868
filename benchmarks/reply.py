"""From a mention to the first visible word and to the whole reply, model time split out.

    python -m benchmarks.reply [--replies 20] [--json]

The real discord.py and slack-bolt clients talk over loopback sockets to the fakes of the tests; the
history is SQLite on disk; the model is the one in the package behind its real server. So the
figures hold everything but the internet. "Rest" is the whole reply less what the model server says
it took: the bot, the store, HTTP and the platform's client.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import pytest
import typer
from pydantic import SecretStr
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bot.app import open_bot
from bot.core.ports import ReplyTimes
from bot.ops.logging import configure
from bot.platforms.discord.platform import DiscordPlatform
from bot.platforms.slack import SlackPlatform, app_manifest
from bot.settings import OpsSettings, Settings, load_settings
from tests.fakes.discord import FakeDiscord
from tests.fakes.slack import FakeSlack

_LINES = (
    "hi friend",
    "how are you today?",
    "do you like music?",
    "what did you do this weekend?",
    "tell me about your favourite film",
    "that sounds nice",
    "why do you like it?",
    "I see",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One reply, in milliseconds from the moment the mention was sent."""

    first_visible: float
    whole: float
    model: float
    first_token: float

    @property
    def rest(self) -> float:
        """What the model did not take."""
        return self.whole - self.model


@dataclass
class _Observer:
    """Passes on what the bot says of each reply."""

    times: asyncio.Queue[ReplyTimes] = field(default_factory=asyncio.Queue)

    def received(self, platform: str, outcome: str) -> None:
        """Not needed here."""

    def replied(self, platform: str, outcome: str, times: ReplyTimes) -> None:
        """Keep the times of an answer; anything else spoils the measurement."""
        if outcome != "answered":
            raise RuntimeError(f"the reply was not answered but {outcome}")
        self.times.put_nowait(times)


Ask = Callable[[str], Awaitable[Sample]]


@asynccontextmanager
async def _discord(settings: Settings) -> AsyncIterator[Ask]:
    with pytest.MonkeyPatch.context() as patch:
        async with FakeDiscord() as fake:
            fake.patch(patch)
            channel = fake.add_guild("home").add_text_channel("general")
            person = fake.add_user("ann")
            token = SecretStr(fake.token)
            section = settings.discord.model_copy(update={"token": token})
            settings = replace(settings, discord=section)
            platform, observer = DiscordPlatform(section), _Observer()
            async with platform, open_bot(settings, [platform], observer=observer) as bot:
                listening = asyncio.create_task(platform.run(bot.friend))
                await fake.wait_until(lambda: platform.is_connected, 20, "the bot to connect")

                async def ask(text: str) -> Sample:
                    count = len(channel.posted(fake.bot))
                    start = time.perf_counter()
                    await fake.say(channel, person, f"{fake.bot.mention} {text}")
                    await fake.wait_until(lambda: len(channel.posted(fake.bot)) > count, 60)
                    visible = time.perf_counter() - start
                    return await _sample(observer, start, visible)

                try:
                    yield ask
                finally:
                    await _stop(listening)


@asynccontextmanager
async def _slack(settings: Settings) -> AsyncIterator[Ask]:
    async with FakeSlack(manifest=app_manifest()) as fake:
        person = fake.add_user("ann")
        channel = fake.add_channel("general", members=[person, fake.bot])
        update = {
            "bot_token": SecretStr(fake.bot_token),
            "app_token": SecretStr(fake.app_token),
        }
        section = settings.slack.model_copy(update=update)
        settings = replace(settings, slack=section)
        platform, observer = SlackPlatform(section, api_url=fake.api_url), _Observer()
        async with open_bot(settings, [platform], observer=observer) as bot:
            listening = asyncio.create_task(platform.run(bot.friend))
            await asyncio.wait_for(platform.connected.wait(), 20)

            async def ask(text: str) -> Sample:
                start = time.perf_counter()
                said = await fake.say(channel, person, f"<@{fake.bot.id}> {text}")
                while not any(  # noqa: ASYNC110 (the fake has no such event)
                    message.text for message in fake.messages(channel, by=fake.bot, thread=said)
                ):
                    await asyncio.sleep(0.0005)
                visible = time.perf_counter() - start
                return await _sample(observer, start, visible)

            try:
                yield ask
            finally:
                await _stop(listening)


async def _sample(observer: _Observer, start: float, visible: float) -> Sample:
    times = await asyncio.wait_for(observer.times.get(), 60)
    whole = time.perf_counter() - start
    if times.model is None or times.first_word is None:
        raise RuntimeError("the model server did not say how long it took")
    model = times.model.queue_ms + times.model.load_ms
    model += times.model.prefill_ms + times.model.decode_ms
    return Sample(1000 * visible, 1000 * whole, model, 1000 * times.first_word)


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


_PLATFORMS = {"discord": _discord, "slack": _slack}


async def measure(replies: int, console: Console) -> dict[str, list[Sample]]:
    """Samples by platform; the first reply, which waits for the model to load, is left out."""
    samples: dict[str, list[Sample]] = {}
    for name, platform in _PLATFORMS.items():
        with tempfile.TemporaryDirectory() as folder:
            settings = load_settings()
            url = f"sqlite+aiosqlite:///{Path(folder) / 'history.sqlite3'}"
            store = settings.store.model_copy(update={"url": SecretStr(url)})
            reply = settings.reply.model_copy(update={"seed": 1, "max_tokens": 40})
            access = settings.access.model_copy(
                update={"person_per_minute": 0, "channel_per_minute": 0}
            )
            async with platform(replace(settings, store=store, reply=reply, access=access)) as ask:
                await ask("hi friend")
                samples[name] = [
                    await ask(_LINES[number % len(_LINES)])
                    for number in track(range(replies), description=name, console=console)
                ]
    return samples


def _row(samples: Sequence[Sample]) -> dict[str, float]:
    return {
        "first_visible_ms": median(s.first_visible for s in samples),
        "whole_ms": median(s.whole for s in samples),
        "model_ms": median(s.model for s in samples),
        "model_first_token_ms": median(s.first_token for s in samples),
        "rest_ms": median(s.rest for s in samples),
        "replies": len(samples),
    }


def main(
    replies: Annotated[int, typer.Option(help="Replies to measure on each platform.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure, and print medians."""
    configure(OpsSettings.model_construct(log_level="ERROR"))
    samples = asyncio.run(measure(replies, Console(stderr=True)))
    rows: dict[str, Any] = {name: _row(found) for name, found in samples.items()}
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(
        "platform",
        "first visible word",
        "whole reply",
        "of it the model",
        "rest",
        title=f"Milliseconds from a mention, medians of {replies}",
    )
    for name, row in rows.items():
        keys = ("first_visible_ms", "whole_ms", "model_ms", "rest_ms")
        table.add_row(name, *(f"{row[key]:.0f}" for key in keys))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
