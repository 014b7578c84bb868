"""Slash commands on the fake, registered and answered by the real discord.py client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import discord
import pytest
from discord import app_commands

from tests.fakes.discord import FakeDiscord
from tests.fakes.discord_client import RecordingClient, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.fakes.discord import Channel, User

    Answer = Callable[[discord.Interaction[Any]], Awaitable[None]]


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as fake:
        fake.patch(monkeypatch)
        yield fake


@pytest.fixture
def channel(fake: FakeDiscord) -> Channel:
    return fake.add_guild().add_text_channel("general")


@pytest.fixture
def alice(fake: FakeDiscord) -> User:
    return fake.add_user("alice")


def client_with(answer: Answer, errors: list[BaseException] | None = None) -> RecordingClient:
    class Client(RecordingClient):
        async def setup_hook(self) -> None:
            await self.tree.sync()

    client = Client()

    @client.tree.command(name="reset", description="Forget this channel")
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=False)
    @app_commands.allowed_installs(guilds=True, users=False)
    async def reset(interaction: discord.Interaction[Any]) -> None:
        await answer(interaction)

    @client.tree.error
    async def on_error(interaction: Any, error: app_commands.AppCommandError) -> None:
        if errors is None:
            raise error
        assert isinstance(error, app_commands.CommandInvokeError)
        errors.append(error.original)

    return client


async def test_commands_are_registered_and_listed(fake: FakeDiscord) -> None:
    async def answer(interaction: discord.Interaction[Any]) -> None: ...

    async with running(client_with(answer), fake) as client:
        listed = await client.tree.fetch_commands()
    assert [command.name for command in listed] == ["reset"]
    assert fake.commands.registered["reset"]["contexts"] == [0, 1]
    assert fake.commands.registered["reset"]["integration_types"] == [0]
    assert fake.commands.writes == 1


@pytest.mark.parametrize("where", ["guild", "dm", "thread"])
async def test_immediate_answer(
    fake: FakeDiscord, channel: Channel, alice: User, where: str
) -> None:
    seen: list[Any] = []

    async def answer(interaction: discord.Interaction[Any]) -> None:
        seen.append(interaction.channel)
        response = await interaction.response.send_message("done", ephemeral=True)
        seen.append(response.message_id)

    async with running(client_with(answer), fake):
        target = {"guild": channel, "dm": fake.dm(alice)}.get(where)
        target = target or fake.add_thread(channel, "t", alice)
        interaction = await fake.slash(target, alice, "reset")
        message = await interaction.wait_for_response()
        await fake.wait_until(lambda: interaction.response_type)
    kinds = {"guild": discord.TextChannel, "dm": discord.DMChannel, "thread": discord.Thread}
    assert isinstance(seen[0], kinds[where])
    assert seen[1] == message.id
    assert message.content == "done"
    assert interaction.ephemeral
    assert not interaction.deferred


async def test_deferred_answer_and_followup(
    fake: FakeDiscord, channel: Channel, alice: User
) -> None:
    async def answer(interaction: discord.Interaction[Any]) -> None:
        await interaction.response.defer(thinking=True)
        await interaction.edit_original_response(content="one")
        await interaction.edit_original_response(content="two")
        await interaction.followup.send("three")
        assert (await interaction.original_response()).content == "two"
        await interaction.delete_original_response()

    async with running(client_with(answer), fake):
        interaction = await fake.slash(channel, alice, "reset")
        original = await interaction.wait_for_response()
        await fake.wait_until(lambda: original.deleted)
    assert interaction.deferred
    assert [content for _, content in original.versions] == ["one", "two"]
    assert [m.content for m in interaction.followups] == ["three"]


async def test_late_answer_is_an_unknown_interaction(
    fake: FakeDiscord, channel: Channel, alice: User
) -> None:
    fake.interactions.ack_seconds = 0.1
    errors: list[BaseException] = []

    async def answer(interaction: discord.Interaction[Any]) -> None:
        await asyncio.sleep(0.2)
        await interaction.response.defer()

    async with running(client_with(answer, errors), fake):
        interaction = await fake.slash(channel, alice, "reset")
        async with asyncio.timeout(20):
            while not errors:
                await asyncio.sleep(0.02)
    assert isinstance(errors[0], discord.NotFound)
    assert errors[0].code == 10062
    assert interaction.response_type is None


async def test_second_acknowledgement_is_refused(
    fake: FakeDiscord, channel: Channel, alice: User
) -> None:
    errors: list[BaseException] = []

    async def answer(interaction: discord.Interaction[Any]) -> None:
        await interaction.response.defer()
        interaction.response._response_type = None
        await interaction.response.defer()

    async with running(client_with(answer, errors), fake):
        await fake.slash(channel, alice, "reset")
        async with asyncio.timeout(20):
            while not errors:
                await asyncio.sleep(0.02)
    assert isinstance(errors[0], discord.HTTPException)
    assert errors[0].code == 40060


async def test_token_expires(fake: FakeDiscord, channel: Channel, alice: User) -> None:
    fake.interactions.token_seconds = 0.1
    errors: list[BaseException] = []

    async def answer(interaction: discord.Interaction[Any]) -> None:
        await interaction.response.defer()
        await asyncio.sleep(0.2)
        await interaction.followup.send("late")

    async with running(client_with(answer, errors), fake):
        await fake.slash(channel, alice, "reset")
        async with asyncio.timeout(20):
            while not errors:
                await asyncio.sleep(0.02)
    assert isinstance(errors[0], discord.HTTPException)
    assert errors[0].code == 50027


async def test_unregistered_command_cannot_be_used(
    fake: FakeDiscord, channel: Channel, alice: User
) -> None:
    with pytest.raises(AssertionError, match="not registered"):
        await fake.slash(channel, alice, "reset")
