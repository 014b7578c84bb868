"""The fake's Socket Mode, judged through the real slack-bolt and its aiohttp client."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from tests.fakes.slack import APP_TOKEN, BOT_TOKEN, FakeSlack
from tests.fakes.slack.stage import SlashUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Listener:
    """A Bolt app that writes down everything it is told."""

    def __init__(self, fake: FakeSlack, *, ping_seconds: float = 5.0) -> None:
        self.events: list[dict[str, Any]] = []
        self.bodies: list[dict[str, Any]] = []
        self.retries: list[str | None] = []
        client = AsyncWebClient(token=BOT_TOKEN, base_url=fake.api_url)
        self.app = AsyncApp(client=client)
        self.app.event("message")(self._event)
        self.app.event("app_mention")(self._event)
        self.app.command("/friend-reset")(self._command)
        self.app.shortcut("reset_here")(self._shortcut)
        self.app.action("again")(self._action)
        self.handler = AsyncSocketModeHandler(self.app, APP_TOKEN, ping_interval=ping_seconds)

    async def _event(self, event: dict[str, Any], body: dict[str, Any], request: Any) -> None:
        self.events.append(event)
        self.bodies.append(body)
        self.retries.append(request.headers.get("x-slack-retry-num", [None])[0])

    async def _command(self, ack: Any, command: dict[str, Any], respond: Any) -> None:
        await ack(f"in {command['channel_name']}")
        await respond("and later")

    async def _shortcut(self, ack: Any, shortcut: dict[str, Any], respond: Any) -> None:
        await ack()
        await respond(f"about {shortcut['message']['text']}")

    async def _action(self, ack: Any, action: dict[str, Any], respond: Any) -> None:
        await ack()
        await respond(text=f"pressed {action['value']}", response_type="in_channel")


@asynccontextmanager
async def listening(fake: FakeSlack, **options: Any) -> AsyncIterator[Listener]:
    listener = Listener(fake, **options)
    await listener.handler.connect_async()  # type: ignore[no-untyped-call]
    try:
        yield listener
    finally:
        await listener.handler.close_async()  # type: ignore[no-untyped-call]
        await asyncio.sleep(0)


@pytest.fixture
async def fake() -> AsyncIterator[FakeSlack]:
    async with FakeSlack(ack_seconds=20.0, retry_delays=(0.0, 0.05, 0.1)) as running:
        yield running


async def test_mention_arrives_twice_and_own_posts_are_echoed(fake: FakeSlack) -> None:
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    async with listening(fake) as listener:
        said = await fake.say(channel, alice, f"{fake.bot.mention} hello")
        await fake.wait_delivered()
        assert sorted(event["type"] for event in listener.events) == ["app_mention", "message"]
        assert {event["ts"] for event in listener.events} == {said.ts}
        assert len({body["event_id"] for body in listener.bodies}) == 2
        await listener.app.client.chat_postMessage(channel=channel.id, text="hi")
        await fake.wait_delivered()
        echoed = fake.deliveries[-1].payload["event"]
        assert (echoed["text"], echoed["bot_id"]) == ("hi", fake.bot.bot_id)
        assert len(listener.events) == 2, "Bolt itself drops the app's own posts"


async def test_direct_messages_have_no_mention_twin(fake: FakeSlack) -> None:
    alice = fake.add_user("alice")
    async with listening(fake) as listener:
        await fake.say(fake.dm(alice), alice, f"{fake.bot.mention} hello")
        await fake.wait_delivered()
        assert [event["channel_type"] for event in listener.events] == ["im"]


async def test_edits_deletions_and_previews_are_told(fake: FakeSlack) -> None:
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    async with listening(fake) as listener:
        said = await fake.say(channel, alice, "helo")
        await fake.wait_delivered()
        await fake.unfurl(said)
        await fake.wait_delivered()
        await fake.edit(said, f"{fake.bot.mention} hello")
        await fake.wait_delivered()
        await fake.delete(said)
        await fake.wait_delivered()
        subtypes = [event.get("subtype") for event in listener.events]
        assert subtypes[:2] == [None, "message_changed"]
        assert "edited" not in listener.events[1]["message"]
        assert sorted(map(str, subtypes[2:4])) == ["None", "message_changed"]
        mention = next(event for event in listener.events if event["type"] == "app_mention")
        assert "edited" in mention
        assert subtypes[4] == "message_deleted"
        assert listener.events[4]["deleted_ts"] == said.ts


async def test_tickets_work_once(fake: FakeSlack) -> None:
    client = AsyncWebClient(base_url=fake.api_url)
    url = (await client.apps_connections_open(app_token=APP_TOKEN))["url"]
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url) as ws:
            assert (await ws.receive_json())["type"] == "hello"
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(url)
    assert len(fake.socket.refused_tickets) == 1


async def test_each_event_goes_to_one_of_the_sockets(fake: FakeSlack) -> None:
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    async with listening(fake) as first, listening(fake) as second:
        for number in range(6):
            await fake.say(channel, alice, str(number))
        await fake.wait_delivered()
        texts = [event["text"] for event in first.events + second.events]
        assert sorted(texts) == ["0", "1", "2", "3", "4", "5"]
        assert len(first.events) == len(second.events) == 3


async def test_unacknowledged_event_comes_again_with_the_same_id(fake: FakeSlack) -> None:
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    client = AsyncWebClient(base_url=fake.api_url)
    url = (await client.apps_connections_open(app_token=APP_TOKEN))["url"]
    fake.socket.ack_seconds = 0.3
    async with aiohttp.ClientSession() as session:
        ws = await session.ws_connect(url)
        await ws.receive_json()
        await fake.say(channel, alice, "hello")
        first = await ws.receive_json()
        second = await ws.receive_json()
        assert first["payload"]["event_id"] == second["payload"]["event_id"]
        assert first["envelope_id"] != second["envelope_id"]
        assert (second["retry_attempt"], second["retry_reason"]) == (1, "timeout")
        fake.socket.ack_seconds = 20.0
        await ws.close()
    async with listening(fake) as listener:
        await fake.wait_delivered()
        assert listener.bodies[0]["event_id"] == first["payload"]["event_id"]
        assert listener.retries == ["2"]


async def test_event_made_while_no_socket_is_open_waits(fake: FakeSlack) -> None:
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    await fake.say(channel, alice, "anyone?")
    async with listening(fake) as listener:
        await fake.wait_delivered()
        assert [event["text"] for event in listener.events] == ["anyone?"]


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
async def test_the_client_moves_to_a_new_socket_when_told(fake: FakeSlack, reason: Any) -> None:
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    async with listening(fake) as listener:
        await fake.socket.wait_connected(1)
        await fake.socket.disconnect(reason)
        await fake.socket.wait_connected(2)
        await fake.say(channel, alice, "still there?")
        await fake.wait_delivered()
        assert [event["text"] for event in listener.events] == ["still there?"]


@pytest.mark.parametrize("trouble", ["drop", "stall", "link_disabled"])
async def test_the_client_comes_back_after_a_broken_socket(fake: FakeSlack, trouble: str) -> None:
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    async with listening(fake, ping_seconds=0.1) as listener:
        await fake.socket.wait_connected(1)
        fake.socket.ack_seconds = 1.0
        if trouble == "drop":
            fake.socket.drop()
        elif trouble == "stall":
            fake.socket.stall()
        else:
            await fake.socket.disconnect("link_disabled")
        await fake.say(channel, alice, "still there?")
        await fake.socket.wait_connected(2)
        await fake.wait_delivered()
        assert [event["text"] for event in listener.events] == ["still there?"]


async def test_deaf_socket_answers_pings_and_hears_nothing(fake: FakeSlack) -> None:
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    async with listening(fake, ping_seconds=0.05) as listener:
        await fake.socket.wait_connected(1)
        fake.socket.deafen()
        fake.socket.ack_seconds = 0.3
        said = await fake.say(channel, alice, "hello?")
        await fake.wait_delivered()
        assert listener.events == []
        assert fake.socket.connections == 1
        assert fake.socket.links[0].pings >= 3
        (delivery,) = fake.deliveries_of(said)
        assert not delivery.acknowledged
        assert delivery.attempts == ["first", "timeout", "timeout", "timeout"]


async def test_commands_shortcuts_and_buttons(fake: FakeSlack) -> None:
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    async with listening(fake) as listener:
        delivery = await fake.slash(channel, alice, "/friend-reset")
        assert delivery.acknowledged
        texts = {(await fake.wait_for_ephemeral(alice)).text for _ in range(2)}
        assert texts == {"in general", "and later"}
        said = await fake.say(channel, alice, "hello")
        await fake.shortcut(said, alice, "reset_here")
        assert (await fake.wait_for_ephemeral(alice)).text == "about hello"
        button = {"type": "button", "action_id": "again", "value": "v1"}
        await listener.app.client.chat_postMessage(
            channel=channel.id, text="q", blocks=[{"type": "actions", "elements": [button]}]
        )
        question = await fake.wait_for_message(channel)
        await fake.click(question, alice, "again")
        assert (await fake.wait_for_message(channel)).text == "pressed v1"
        with pytest.raises(SlashUnavailableError):
            await fake.slash(channel, alice, "/friend-reset", thread=said)
        with pytest.raises(SlashUnavailableError):
            await fake.slash(fake.dm(alice), alice, "/friend-reset")


async def test_events_the_manifest_does_not_ask_for_never_come(fake: FakeSlack) -> None:
    fake.install(
        {
            "oauth_config": {"scopes": {"bot": ["chat:write", "app_mentions:read"]}},
            "settings": {"event_subscriptions": {"bot_events": ["app_mention"]}},
            "features": {"slash_commands": []},
        }
    )
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    await fake.say(channel, alice, f"{fake.bot.mention} hello")
    assert [d.payload["event"]["type"] for d in fake.deliveries] == ["app_mention"]
    with pytest.raises(SlashUnavailableError):
        await fake.slash(channel, alice, "/friend-reset")
