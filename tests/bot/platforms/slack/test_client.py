"""Which calls the client repeats by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.platforms.slack import client as slack_client
from bot.platforms.slack.client import Budget, web_client
from bot.platforms.slack.failures import delivery_failed, is_ambiguous
from bot.platforms.slack.people import Names
from tests.fakes.slack import FakeSlack


@pytest.fixture
async def fake() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as running:
        yield running


@pytest.fixture
def client(fake: FakeSlack) -> AsyncWebClient:
    return web_client(fake.bot_token, api_url=fake.api_url)


@pytest.mark.parametrize("fault", [{"html": 502}, {"status": 500}, {"reset": True}])
async def test_what_does_no_harm_twice_is_repeated(
    fake: FakeSlack, client: AsyncWebClient, fault: dict[str, Any]
) -> None:
    fake.faults.next("auth.test", **fault)
    assert (await client.auth_test())["ok"]
    assert len(fake.calls("auth.test")) == 2


@pytest.mark.parametrize("fault", [{"html": 502}, {"status": 500}, {"lost": True}])
async def test_a_post_is_never_repeated_blindly(
    fake: FakeSlack, client: AsyncWebClient, fault: dict[str, Any]
) -> None:
    channel = fake.add_channel("general")
    fake.faults.next("chat.postMessage", **fault)
    with pytest.raises((SlackApiError, aiohttp.ClientError)) as caught:
        await client.chat_postMessage(channel=channel.id, text="hi")
    assert is_ambiguous(caught.value)
    assert delivery_failed(caught.value).retryable
    assert len(fake.calls("chat.postMessage")) == 1


async def test_a_post_waits_out_a_rate_limit_and_a_courtesy_does_not(
    fake: FakeSlack, client: AsyncWebClient
) -> None:
    alice = fake.add_user("alice")
    dm = fake.dm(alice)
    root = await fake.say(dm, alice, "hi")
    fake.faults.next("chat.postMessage", status=429, retry_after=0)
    await client.chat_postMessage(channel=dm.id, text="hi")
    fake.faults.next("chat.startStream", status=429, retry_after=0)
    with pytest.raises(SlackApiError):
        await client.chat_startStream(channel=dm.id, thread_ts=root.ts)
    assert len(fake.calls("chat.startStream")) == 1


async def test_a_rate_limit_of_minutes_is_not_waited_out(
    fake: FakeSlack, client: AsyncWebClient
) -> None:
    fake.faults.next("auth.test", status=429, retry_after=3600)
    with pytest.raises(SlackApiError):
        await client.auth_test()


async def test_refusals_say_what_to_do(fake: FakeSlack, client: AsyncWebClient) -> None:
    elsewhere = fake.add_channel("elsewhere", [fake.add_user("alice")])
    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(channel=elsewhere.id, text="hi")
    failure = delivery_failed(caught.value)
    assert not failure.retryable
    assert "/invite @friend" in str(failure)


async def test_names_are_asked_once_and_unknown_ones_do_not_hold_up(
    fake: FakeSlack, client: AsyncWebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.platforms.slack.people.ANSWER_SECONDS", 0.2)
    alice, bob = fake.add_user("alice", "Alice"), fake.add_user("bob", "Bob")
    names = Names(client)
    assert await names.of([alice.id, "U404"]) == {alice.id: "Alice"}
    assert await names.of([alice.id, "U404"]) == {alice.id: "Alice"}
    assert len(fake.calls("users.info")) == 2
    fake.faults.next("users.info", hang=1)
    assert await names.of([bob.id]) == {}
    assert await names.of([bob.id]) == {}, "not waited for again"
    assert len(fake.calls("users.info")) == 3


def test_budget_refills_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(slack_client.time, "monotonic", lambda: now[0])
    budget = Budget(2, 60.0)
    assert [budget.take() for _ in range(3)] == [True, True, False]
    now[0] = 61.0
    assert budget.take()
