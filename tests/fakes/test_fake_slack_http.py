"""The fake's signed HTTP deliveries, judged through the real slack-bolt server."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from tests.fakes.slack import BOT_TOKEN, SIGNING_SECRET, FakeSlack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def fake() -> AsyncIterator[FakeSlack]:
    async with FakeSlack(
        transport="http", ack_seconds=20.0, retry_delays=(0.0, 0.05, 0.1)
    ) as running:
        yield running


class Endpoint:
    """A Bolt app behind its own loopback server."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.event_ids: list[str] = []
        self.retries: list[str | None] = []
        self.slow: list[float] = []


@pytest.fixture
async def endpoint(fake: FakeSlack) -> AsyncIterator[Endpoint]:
    seen = Endpoint()
    client = AsyncWebClient(token=BOT_TOKEN, base_url=fake.api_url)
    bolt = AsyncApp(client=client, signing_secret=SIGNING_SECRET)

    @bolt.middleware
    async def delay(next: Any) -> None:  # noqa: A002
        if seen.slow:
            await asyncio.sleep(seen.slow.pop(0))
        await next()

    async def on_event(event: dict[str, Any], body: dict[str, Any], request: Any) -> None:
        seen.events.append(event)
        seen.event_ids.append(body["event_id"])
        seen.retries.append(request.headers.get("x-slack-retry-num", [None])[0])

    async def on_command(ack: Any) -> None:
        await ack("done")

    bolt.event("app_mention")(on_event)
    bolt.event("message")(on_event)
    bolt.command("/friend-reset")(on_command)
    runner = web.AppRunner(bolt.web_app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    fake.http.target = f"http://127.0.0.1:{port}/slack/events"
    yield seen
    await runner.cleanup()


async def test_url_verification_and_signed_events(fake: FakeSlack, endpoint: Endpoint) -> None:
    assert await fake.http.verify_url()
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    await fake.say(channel, alice, f"{fake.bot.mention} hello")
    await fake.wait_delivered()
    assert sorted(event["type"] for event in endpoint.events) == ["app_mention", "message"]
    assert all(delivery.acknowledged for delivery in fake.deliveries)


@pytest.mark.parametrize(
    ("skew", "secret"), [(-301.0, None), (301.0, None), (0.0, "someone-elses-secret")]
)
async def test_wrong_signature_or_skew_is_refused(
    fake: FakeSlack, endpoint: Endpoint, skew: float, secret: str | None
) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "x"}).encode()
    headers = fake.http.sign(body, skew=skew, secret=secret)
    status, _, _ = await fake.http.post(body, "application/json", headers)
    assert status == 401
    assert endpoint.events == []


async def test_slow_acknowledgement_brings_the_same_event_again(
    fake: FakeSlack, endpoint: Endpoint
) -> None:
    alice = fake.add_user("alice")
    fake.http.ack_seconds = 1.0
    endpoint.slow = [1.5]
    said = await fake.say(fake.dm(alice), alice, "hello")
    await fake.wait_delivered()
    (delivery,) = fake.deliveries_of(said)
    assert delivery.attempts == ["first", "http_timeout"]
    assert endpoint.retries[-1] == "1"
    assert len(set(endpoint.event_ids)) == 1


async def test_event_for_a_dead_endpoint_is_given_up_after_the_retries(
    fake: FakeSlack,
) -> None:
    fake.http.target = "http://127.0.0.1:9/slack/events"
    alice = fake.add_user("alice")
    said = await fake.say(fake.dm(alice), alice, "hello")
    await fake.wait_delivered()
    (delivery,) = fake.deliveries_of(said)
    assert not delivery.acknowledged
    assert delivery.attempts == ["first", *["connection_failed"] * 3]


async def test_slash_command_is_a_signed_form(fake: FakeSlack, endpoint: Endpoint) -> None:
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    delivery = await fake.slash(channel, alice, "/friend-reset")
    assert delivery.acknowledged
    assert (await fake.wait_for_ephemeral(alice)).text == "done"
