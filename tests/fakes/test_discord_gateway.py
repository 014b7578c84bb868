"""The fake's gateway, heard by the real discord.py client."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import TYPE_CHECKING

import aiohttp
import discord
import pytest

from tests.fakes.discord import FakeDiscord
from tests.fakes.discord_client import RecordingClient, running, unprivileged_intents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fakes.discord import Channel, User


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


async def test_mention_is_heard_with_its_content(
    fake: FakeDiscord, channel: Channel, alice: User
) -> None:
    async with running(RecordingClient(), fake) as client:
        await fake.say(channel, alice, f"{fake.bot.mention} hello")
        await client.until(lambda: client.heard)
    message = client.heard[0]
    assert message.content == f"<@{fake.bot.id}> hello"
    assert message.author.id == alice.id
    assert isinstance(message.author, discord.Member)
    assert isinstance(message.channel, discord.TextChannel)
    assert client.user in message.mentions


async def test_content_is_empty_without_the_intent_unless_it_concerns_the_bot(
    fake: FakeDiscord, channel: Channel, alice: User
) -> None:
    async with running(RecordingClient(), fake) as client:
        mine = await fake.say(channel, fake.bot, "mine")
        await fake.say(channel, alice, "for others")
        await fake.say(channel, alice, "a reply", reply_to=mine)
        await fake.say(channel, alice, "a quiet reply", reply_to=mine, ping=False)
        await fake.say(fake.dm(alice), alice, "in private")
        await client.until(lambda: len(client.heard) == 5)
    assert [m.content for m in client.heard] == ["mine", "", "a reply", "", "in private"]
    assert isinstance(client.heard[4].channel, discord.DMChannel)
    reference = client.heard[2].reference
    assert reference is not None
    assert isinstance(reference.resolved, discord.Message)
    assert reference.resolved.id == mine.id


async def test_content_arrives_with_the_intent(monkeypatch: pytest.MonkeyPatch) -> None:
    intents = unprivileged_intents()
    intents.message_content = True
    async with FakeDiscord(message_content=True) as fake:
        fake.patch(monkeypatch)
        channel, alice = fake.add_guild().add_text_channel("general"), fake.add_user("alice")
        async with running(RecordingClient(intents=intents), fake) as client:
            await fake.say(channel, alice, "for others")
            await client.until(lambda: client.heard)
    assert client.heard[0].content == "for others"


async def test_privileged_intent_that_is_off_closes_with_4014(fake: FakeDiscord) -> None:
    intents = unprivileged_intents()
    intents.message_content = True
    client = RecordingClient(intents=intents)
    async with client:
        with pytest.raises(discord.PrivilegedIntentsRequired):
            await client.start(fake.token)


async def test_events_of_intents_not_asked_for_do_not_arrive(
    fake: FakeDiscord, channel: Channel, alice: User
) -> None:
    intents = unprivileged_intents()
    intents.guild_messages = False
    async with running(RecordingClient(intents=intents), fake) as client:
        await fake.say(channel, alice, f"{fake.bot.mention} hello")
        await fake.say(fake.dm(alice), alice, "in private")
        await client.until(lambda: client.heard)
    assert [m.content for m in client.heard] == ["in private"]


async def test_edit_and_delete_are_heard(fake: FakeDiscord, channel: Channel, alice: User) -> None:
    async with running(RecordingClient(), fake) as client:
        message = await fake.say(channel, alice, f"{fake.bot.mention} one")
        await fake.edit(message, f"{fake.bot.mention} two")
        await fake.delete(message)
        await client.until(lambda: client.deletes)
    assert client.edits[0].message.content.endswith("two")
    assert client.deletes[0].message_id == message.id


async def test_thread_is_created_and_joined_by_posting(
    fake: FakeDiscord, channel: Channel, alice: User
) -> None:
    async with running(RecordingClient(), fake) as client:
        thread = fake.add_thread(channel, "a thread", alice)
        await fake.say(thread, alice, f"{fake.bot.mention} in here")
        await client.until(lambda: client.heard)
        where = client.heard[0].channel
        assert isinstance(where, discord.Thread)
        assert where.me is None
        assert where.parent_id == channel.id
        await where.send("hello thread")
        await client.until(lambda: where.me is not None)
    assert [m.content for m in thread.posted(fake.bot)] == ["hello thread"]


@pytest.mark.parametrize("how", ["drop", "reconnect", "close 4000", "close 1000", "op 9 true"])
async def test_resume_delivers_what_was_missed(
    fake: FakeDiscord, channel: Channel, alice: User, how: str
) -> None:
    async with running(RecordingClient(), fake) as client:
        session = fake.gateway.connected[0]
        await fake.say(channel, alice, f"{fake.bot.mention} before")
        await client.until(lambda: client.heard)
        if how == "drop":
            await fake.gateway.drop()
        elif how == "reconnect":
            await fake.gateway.reconnect()
        elif how == "op 9 true":
            await fake.gateway.invalid_session(resumable=True)
        else:
            await fake.gateway.close(int(how.removeprefix("close ")))
        await fake.say(channel, alice, f"{fake.bot.mention} meanwhile")
        await fake.gateway.wait_resumed(session)
        await client.until(lambda: "RESUMED" in client.events)
        await client.until(lambda: len(client.heard) == 2)
    assert [m.content.split()[-1] for m in client.heard] == ["before", "meanwhile"]
    assert len(fake.gateway.identifies) == 1
    assert len(fake.gateway.resumes) == 1


async def test_resume_can_repeat_events(fake: FakeDiscord, channel: Channel, alice: User) -> None:
    fake.gateway.overlap_on_resume = 1
    async with running(RecordingClient(), fake) as client:
        await fake.say(channel, alice, f"{fake.bot.mention} once")
        await client.until(lambda: client.heard)
        await fake.gateway.drop()
        await client.until(lambda: len(client.heard) == 2)
    assert client.heard[0].id == client.heard[1].id


async def test_invalid_session_makes_the_client_identify_again(
    fake: FakeDiscord, channel: Channel, alice: User
) -> None:
    async with running(RecordingClient(), fake) as client:
        await fake.gateway.invalid_session(resumable=False)
        await fake.wait_until(lambda: len(fake.gateway.sessions) == 2)
        await fake.say(channel, alice, f"{fake.bot.mention} again")
        await client.until(lambda: client.heard)
    assert len(fake.gateway.identifies) == 2


async def test_requested_heartbeat_is_answered(fake: FakeDiscord) -> None:
    fake.gateway.heartbeat_interval = 60.0
    async with running(RecordingClient(), fake):
        before = len(fake.gateway.heartbeats)
        await fake.gateway.request_heartbeat()
        await fake.wait_until(lambda: len(fake.gateway.heartbeats) > before)


async def test_silent_gateway_is_left_and_resumed(fake: FakeDiscord) -> None:
    fake.gateway.heartbeat_interval = 0.1
    async with running(RecordingClient(heartbeat_timeout=0.4), fake):
        session = fake.gateway.connected[0]
        fake.gateway.withhold_acks = True
        await fake.wait_until(lambda: fake.gateway.resumes)
        fake.gateway.withhold_acks = False
        await fake.gateway.wait_resumed(session)


async def test_malformed_dispatch_ends_the_client(fake: FakeDiscord) -> None:
    async with running(RecordingClient(), fake) as client:
        fake.gateway.send_raw("MESSAGE_CREATE", {"id": "1"})
        assert client.runner is not None
        with pytest.raises(KeyError):
            await asyncio.wait_for(asyncio.shield(client.runner), 20)


async def test_refused_reconnect_is_tried_again(
    fake: FakeDiscord, channel: Channel, alice: User
) -> None:
    async with running(RecordingClient(), fake) as client:
        session = fake.gateway.connected[0]
        fake.gateway.refuse_connections = True
        await fake.gateway.drop()
        await fake.wait_until(lambda: fake.gateway.refused)
        fake.gateway.refuse_connections = False
        await fake.gateway.wait_resumed(session)
        await fake.say(channel, alice, f"{fake.bot.mention} hello")
        await client.until(lambda: client.heard)


async def test_gateway_down_at_the_first_connect_ends_the_client(fake: FakeDiscord) -> None:
    """discord.py 2.7 reads the sequence of a socket it never had; hence a supervisor is needed."""
    fake.gateway.refuse_connections = True
    async with RecordingClient() as client:
        with pytest.raises(AttributeError):
            await asyncio.wait_for(client.start(fake.token), 20)


@pytest.mark.parametrize("compression", [None, "zlib-stream"])
async def test_other_transport_encodings(
    fake: FakeDiscord, channel: Channel, alice: User, compression: str | None
) -> None:
    inflate = zlib.decompressobj()
    url = f"{fake.base_url}/gateway?v=10&encoding=json"
    url += f"&compress={compression}" if compression else ""

    async def receive() -> dict[str, object]:
        frame = await ws.receive(timeout=20)
        text = inflate.decompress(frame.data) if compression else frame.data
        return dict(json.loads(text))

    async with aiohttp.ClientSession() as http, http.ws_connect(url) as ws:
        assert (await receive())["op"] == 10
        identify = {"token": fake.token, "intents": 1 << 9, "properties": {}}
        await ws.send_json({"op": 2, "d": identify})
        assert (await receive())["t"] == "READY"
        assert (await receive())["t"] == "GUILD_CREATE"
        await fake.say(channel, alice, "hello")
        assert (await receive())["t"] == "MESSAGE_CREATE"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ('{"op": 2, "d": {"token": "wrong", "intents": 0}}', 4004),
        ('{"op": 3, "d": {}}', 4003),
        ("not json", 4002),
    ],
)
async def test_close_codes(fake: FakeDiscord, payload: str, code: int) -> None:
    url = f"{fake.base_url}/gateway?v=10&encoding=json"
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as ws:
        await ws.receive()
        await ws.send_str(payload)
        assert (await ws.receive(timeout=20)).type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code == code


async def test_shards_share_the_guilds(fake: FakeDiscord) -> None:
    guilds = [fake.add_guild(f"guild {n}") for n in range(4)]
    channels = [guild.add_text_channel("general") for guild in guilds]
    alice = fake.add_user("alice")
    heard: list[str] = []

    class Sharded(discord.AutoShardedClient):
        async def on_message(self, message: discord.Message) -> None:
            heard.append(message.content.split()[-1])

        async def before_identify_hook(
            self, shard_id: int | None, *, initial: bool = False
        ) -> None:
            pass

    client = Sharded(intents=unprivileged_intents(), shard_count=2)
    task = asyncio.create_task(client.start(fake.token))
    await fake.wait_until(lambda: len(fake.gateway.connected) == 2, 20)
    for number, channel in enumerate(channels):
        await fake.say(channel, alice, f"{fake.bot.mention} {number}")
    async with asyncio.timeout(20):
        while len(heard) < 4:
            await asyncio.sleep(0.02)
    await client.close()
    await task
    assert sorted(heard) == ["0", "1", "2", "3"]


async def test_sharding_can_be_demanded(fake: FakeDiscord) -> None:
    fake.gateway.require_shards = True
    async with RecordingClient() as client:
        with pytest.raises(discord.ConnectionClosed) as caught:
            await client.start(fake.token)
    assert caught.value.code == 4011
