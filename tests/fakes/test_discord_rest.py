"""The fake's REST side, called by the real discord.py client."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp
import discord
import pytest

from tests.fakes.discord import (
    CloudflareBan,
    FakeDiscord,
    Hang,
    LateResponse,
    LostResponse,
    RateLimited,
    Refusal,
    Reset,
)
from tests.fakes.discord.ratelimits import Rule
from tests.fakes.discord_client import RecordingClient, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fakes.discord import Channel, User

POST = ("POST", "/channels/*/messages")


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


@pytest.fixture
async def client(fake: FakeDiscord, channel: Channel) -> AsyncIterator[RecordingClient]:
    mentions = discord.AllowedMentions.none()
    async with running(RecordingClient(allowed_mentions=mentions), fake) as client:
        yield client


@pytest.fixture
def text(client: RecordingClient, channel: Channel) -> discord.TextChannel:
    found = client.get_channel(channel.id)
    assert isinstance(found, discord.TextChannel)
    return found


async def test_wrong_token_fails_the_login(fake: FakeDiscord) -> None:
    async with RecordingClient() as client:
        with pytest.raises(discord.LoginFailure):
            await client.login("wrong")


async def test_reply_refers_to_its_message_and_is_heard(
    fake: FakeDiscord, channel: Channel, alice: User, client: RecordingClient
) -> None:
    said = await fake.say(channel, alice, f"{fake.bot.mention} hello")
    await client.until(lambda: client.heard)
    sent = await client.heard[0].reply("hi alice", mention_author=False, nonce="n1")
    posted = await fake.wait_for_message(channel)
    assert posted.reference is said
    assert posted.content == "hi alice"
    assert posted.pinged == []
    assert sent.id == posted.id
    await client.until(lambda: len(client.heard) == 2)
    assert client.heard[1].nonce == "n1"


@pytest.mark.parametrize(
    ("allowed", "pinged"),
    [
        (None, ["alice", "helpers", "everyone", "here"]),
        (discord.AllowedMentions.none(), []),
        (discord.AllowedMentions(everyone=False, roles=False, users=True), ["alice"]),
    ],
)
async def test_allowed_mentions_decide_who_is_pinged(
    fake: FakeDiscord,
    channel: Channel,
    alice: User,
    allowed: discord.AllowedMentions | None,
    pinged: list[str],
) -> None:
    assert channel.guild is not None
    role = channel.guild.add_role("helpers")
    content = f"{alice.mention} {role.mention} @everyone @here"
    async with running(RecordingClient(), fake) as client:
        found = client.get_channel(channel.id)
        assert isinstance(found, discord.TextChannel)
        if allowed is None:
            await found.send(content)
        else:
            await found.send(content, allowed_mentions=allowed)
    names = {alice.id: "alice", role.id: "helpers", "everyone": "everyone", "here": "here"}
    assert [names[key] for key in channel.posted()[0].pinged] == pinged


async def test_edit_keeps_versions_and_delete_removes(
    channel: Channel, text: discord.TextChannel
) -> None:
    message = await text.send("one")
    await message.edit(content="two")
    posted = channel.posted()[0]
    assert [content for _, content in posted.versions] == ["one", "two"]
    await message.delete()
    assert channel.posted() == []
    with pytest.raises(discord.NotFound):
        await text.fetch_message(message.id)


async def test_too_long_and_empty_messages_are_refused(text: discord.TextChannel) -> None:
    with pytest.raises(discord.HTTPException, match="2000 or fewer") as caught:
        await text.send("x" * 2001)
    assert caught.value.code == 50035
    with pytest.raises(discord.HTTPException) as caught:
        await text.send("  ")
    assert caught.value.code == 50006


async def test_permissions(channel: Channel, text: discord.TextChannel) -> None:
    channel.denied.add("send")
    with pytest.raises(discord.Forbidden) as caught:
        await text.send("hello")
    assert caught.value.code == 50013
    channel.denied.add("view")
    with pytest.raises(discord.Forbidden) as caught:
        await text.fetch_message(1)
    assert caught.value.code == 50001


async def test_reply_to_a_deleted_message(
    fake: FakeDiscord,
    channel: Channel,
    alice: User,
    client: RecordingClient,
    text: discord.TextChannel,
) -> None:
    said = await fake.say(channel, alice, f"{fake.bot.mention} hello")
    await client.until(lambda: client.heard)
    await fake.delete(said)
    with pytest.raises(discord.HTTPException, match="Unknown message"):
        await client.heard[0].reply("hi")
    reference = client.heard[0].to_reference(fail_if_not_exists=False)
    await text.send("hi", reference=reference)
    assert channel.posted(fake.bot)[0].reference is None


async def test_history_pages(fake: FakeDiscord, channel: Channel, alice: User) -> None:
    said = [await fake.say(channel, alice, f"{fake.bot.mention} {n}") for n in range(150)]
    async with running(RecordingClient(), fake) as client:
        text = client.get_channel(channel.id)
        assert isinstance(text, discord.TextChannel)
        newest = [m.id async for m in text.history(limit=3)]
        everything = [m.id async for m in text.history(limit=None, oldest_first=True)]
        after = [m.id async for m in text.history(limit=2, after=discord.Object(said[9].id))]
        around = [m.id async for m in text.history(limit=3, around=discord.Object(said[9].id))]
    assert newest == [m.id for m in reversed(said[-3:])]
    assert everything == [m.id for m in said]
    assert after == [said[10].id, said[11].id]
    assert sorted(around) == [m.id for m in said[8:11]]


async def test_nonce_is_honoured_once_enforced(channel: Channel, text: discord.TextChannel) -> None:
    first = await text.send("hello", nonce="abc")
    second = await text.send("hello", nonce="abc")
    third = await text.send("hello", nonce="other")
    assert first.id == second.id != third.id
    assert len(channel.posted()) == 2
    await first.delete()
    with pytest.raises(discord.NotFound) as caught:
        await text.send("hello", nonce="abc")
    assert caught.value.code == 10008


@pytest.mark.parametrize("scope", ["user", "global", "shared"])
async def test_rate_limit_is_waited_for(
    fake: FakeDiscord, channel: Channel, text: discord.TextChannel, scope: str
) -> None:
    fake.faults.next(*POST, RateLimited(0.2, scope))  # type: ignore[arg-type]
    began = time.monotonic()
    await text.send("hello")
    assert time.monotonic() - began >= 0.2
    assert len(channel.posted()) == 1
    assert [r.status for r in fake.requests if r.method == "POST"] == [429, 200]


async def test_bucket_makes_the_client_wait(fake: FakeDiscord, text: discord.TextChannel) -> None:
    fake.buckets.rules["POST", "/channels/{channel_id}/messages"] = Rule(2, 0.3)
    began = time.monotonic()
    await asyncio.gather(*(text.send(str(n)) for n in range(4)))
    assert time.monotonic() - began >= 0.3
    assert fake.buckets.exceeded == 0


async def test_cloudflare_ban_is_raised_at_once(
    fake: FakeDiscord, text: discord.TextChannel
) -> None:
    fake.faults.next(*POST, CloudflareBan())
    with pytest.raises(discord.HTTPException) as caught:
        await text.send("hello")
    assert caught.value.status == 429


@pytest.mark.parametrize("status", [503, 520, 522])
async def test_errors_the_client_does_not_retry(
    fake: FakeDiscord, channel: Channel, text: discord.TextChannel, status: int
) -> None:
    fake.faults.next(*POST, status=status)
    with pytest.raises(discord.DiscordServerError):
        await text.send("hello")
    assert channel.posted() == []


async def test_errors_the_client_retries(
    fake: FakeDiscord, channel: Channel, text: discord.TextChannel
) -> None:
    fake.faults.next(*POST, status=502)
    await text.send("hello")
    assert len(channel.posted()) == 1


async def test_reset_happens_before_and_lost_response_after(
    fake: FakeDiscord, channel: Channel, text: discord.TextChannel
) -> None:
    fake.faults.next(*POST, Reset())
    with pytest.raises((aiohttp.ClientError, OSError)):
        await text.send("hello", nonce="n")
    assert channel.posted() == []
    fake.faults.next(*POST, LostResponse())
    with pytest.raises((aiohttp.ClientError, OSError)):
        await text.send("hello", nonce="n")
    assert len(channel.posted()) == 1
    await text.send("hello", nonce="n")
    assert len(channel.posted()) == 1


async def test_hang_and_refusal(fake: FakeDiscord, text: discord.TextChannel) -> None:
    fake.faults.next(*POST, Hang(0.2))
    began = time.monotonic()
    await text.send("hello")
    assert time.monotonic() - began >= 0.2
    fake.faults.next(*POST, Refusal(403, 20028, "slow"), times=2)
    for _ in range(2):
        with pytest.raises(discord.Forbidden):
            await text.send("hello")
    await text.send("hello")


async def test_typing_is_seen_until_the_bot_posts(
    fake: FakeDiscord, channel: Channel, text: discord.TextChannel
) -> None:
    assert not fake.is_typing(channel)
    async with text.typing():
        assert fake.is_typing(channel)
        await text.send("hello")
    assert not fake.is_typing(channel)
    assert [where for where, _ in fake.typing] == [channel]


async def test_direct_messages(fake: FakeDiscord, alice: User, client: RecordingClient) -> None:
    user = await client.fetch_user(alice.id)
    await user.send("psst")
    assert [m.content for m in fake.dm(alice).posted()] == ["psst"]
    alice.dms_closed = True
    with pytest.raises(discord.Forbidden) as caught:
        await user.send("psst")
    assert caught.value.code == 50007


async def test_unknown_route_is_a_problem(
    fake: FakeDiscord, client: RecordingClient, channel: Channel
) -> None:
    assert channel.guild is not None
    with pytest.raises(discord.NotFound):
        await client.http.get_bans(channel.guild.id, limit=1)
    with pytest.raises(AssertionError, match=r"no such route: GET .*/bans"):
        fake.check()
    fake.problems.clear()


async def test_lone_surrogates_and_broken_json_are_refused(
    fake: FakeDiscord, channel: Channel
) -> None:
    url = f"{fake.base_url}/api/v10/channels/{channel.id}/messages"
    headers = {"Authorization": f"Bot {fake.token}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as http:
        for raw in ('{"content": "\\ud83d"}', '{"content":'):
            async with http.post(url, data=raw.encode()) as response:
                assert response.status == 400
                assert (await response.json())["code"] == 50109


async def test_late_response_is_carried_out_at_once(
    fake: FakeDiscord, channel: Channel, text: discord.TextChannel
) -> None:
    fake.faults.next(*POST, LateResponse(0.3))
    sending = asyncio.create_task(text.send("hello"))
    await fake.wait_for_message(channel)
    assert not sending.done()
    await sending


async def test_hidden_history(
    fake: FakeDiscord,
    channel: Channel,
    alice: User,
    client: RecordingClient,
    text: discord.TextChannel,
) -> None:
    await fake.say(channel, alice, f"{fake.bot.mention} hello")
    await client.until(lambda: client.heard)
    channel.denied.add("history")
    assert [message async for message in text.history()] == []
    with pytest.raises(discord.HTTPException) as caught:
        await client.heard[0].reply("hi")
    assert caught.value.code == 160002
