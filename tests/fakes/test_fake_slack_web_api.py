"""The fake's Web API, judged through the real slack_sdk client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncRateLimitErrorRetryHandler,
)
from slack_sdk.web.async_client import AsyncWebClient

from tests.fakes.slack import APP_TOKEN, BOT_TOKEN, FakeSlack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def fake() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as running:
        yield running


@pytest.fixture
def client(fake: FakeSlack) -> AsyncWebClient:
    return AsyncWebClient(token=BOT_TOKEN, base_url=fake.api_url, retry_handlers=[], timeout=20)


async def _error(call: object) -> str:
    with pytest.raises(SlackApiError) as caught:
        await call  # type: ignore[misc]
    return str(caught.value.response["error"])


async def test_tokens_are_checked(fake: FakeSlack, client: AsyncWebClient) -> None:
    assert (await client.auth_test())["user_id"] == fake.bot.id
    wrong = AsyncWebClient(token="xoxb-other", base_url=fake.api_url)
    assert await _error(wrong.auth_test()) == "invalid_auth"
    app_level = AsyncWebClient(token=APP_TOKEN, base_url=fake.api_url)
    assert await _error(app_level.auth_test()) == "not_allowed_token_type"
    assert await _error(client.apps_connections_open(app_token=BOT_TOKEN)) == (
        "not_allowed_token_type"
    )


async def test_a_scope_that_was_not_granted_is_missed(
    fake: FakeSlack, client: AsyncWebClient
) -> None:
    channel = fake.add_channel("general")
    fake.scopes.discard("channels:history")
    with pytest.raises(SlackApiError) as caught:
        await client.conversations_history(channel=channel.id)
    assert caught.value.response["error"] == "missing_scope"
    assert caught.value.response["needed"] == "channels:history"


async def test_posts_updates_deletes_and_reads_back_a_thread(
    fake: FakeSlack, client: AsyncWebClient
) -> None:
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    root = await fake.say(channel, alice, "hello")
    metadata = {"event_type": "reply", "event_payload": {"key": "k1"}}
    posted = await client.chat_postMessage(
        channel=channel.id, text="hi", thread_ts=root.ts, metadata=metadata
    )
    assert (await fake.wait_for_message(channel)).text == "hi"
    thread = await client.conversations_replies(
        channel=channel.id, ts=root.ts, include_all_metadata=True
    )
    assert [m["text"] for m in thread["messages"]] == ["hello", "hi"]
    assert thread["messages"][1]["metadata"] == metadata
    bare = await client.conversations_replies(channel=channel.id, ts=root.ts)
    assert "metadata" not in bare["messages"][1]
    await client.chat_update(channel=channel.id, ts=posted["ts"], text="hi there")
    assert fake.messages(channel, by=fake.bot)[0].text == "hi there"
    assert await _error(client.chat_delete(channel=channel.id, ts=root.ts)) == (
        "cant_delete_message"
    )
    await client.chat_delete(channel=channel.id, ts=posted["ts"])
    assert fake.messages(channel, by=fake.bot) == []


async def test_places_and_texts_that_slack_refuses(fake: FakeSlack, client: AsyncWebClient) -> None:
    alice = fake.add_user("alice")
    elsewhere = fake.add_channel("elsewhere", [alice])
    here = fake.add_channel("here")
    post = client.chat_postMessage
    assert await _error(post(channel="C404", text="x")) == "channel_not_found"
    assert await _error(post(channel=elsewhere.id, text="x")) == "not_in_channel"
    empty = {"channel": here.id, "text": " "}
    assert await _error(client.api_call("chat.postMessage", json=empty)) == "no_text"
    assert await _error(post(channel=here.id, text="x", thread_ts="1.0")) == "thread_not_found"
    assert await _error(post(channel=here.id, markdown_text="x" * 12_001)) == "msg_too_long"
    await post(channel=here.id, markdown_text="x" * 12_000)


async def test_control_sequences_ping_and_escaped_ones_do_not(
    fake: FakeSlack, client: AsyncWebClient
) -> None:
    channel = fake.add_channel("general")
    await client.chat_postMessage(channel=channel.id, text="<!channel> <@U123> <!here|here>")
    await client.chat_postMessage(channel=channel.id, text="&lt;!channel&gt; @everyone")
    loud, quiet = fake.messages(channel, by=fake.bot)
    assert loud.pings == {"channel", "here", "U123"}
    assert quiet.pings == set()


async def test_stream_is_a_state_machine(fake: FakeSlack, client: AsyncWebClient) -> None:
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    root = await fake.say(channel, alice, "hello")
    place: dict[str, Any] = {"channel": channel.id, "thread_ts": root.ts}
    recipient: dict[str, Any] = {"recipient_team_id": "T0FAKETEAM", "recipient_user_id": alice.id}
    assert await _error(client.chat_startStream(**place)) == "missing_recipient_team_id"
    assert (
        await _error(client.chat_startStream(**place, recipient_team_id="T0FAKETEAM"))
        == "missing_recipient_user_id"
    )
    stream = await client.chat_stream(buffer_size=1, **place, **recipient)
    await stream.append(markdown_text="one ")
    await stream.append(markdown_text="two ")
    message = fake.messages(channel, by=fake.bot)[0]
    assert (message.text, message.finished) == ("one two ", False)
    long = client.chat_appendStream(channel=channel.id, ts=message.ts, markdown_text="x" * 12_001)
    assert await _error(long) == "msg_too_long"
    await stream.stop(markdown_text="three")
    assert (await fake.wait_for_message(channel)).text == "one two three"
    after = client.chat_appendStream(channel=channel.id, ts=message.ts, markdown_text="four")
    assert await _error(after) == "message_not_in_streaming_state"
    again = client.chat_stopStream(channel=channel.id, ts=message.ts)
    assert await _error(again) == "message_not_in_streaming_state"


async def test_stream_ends_by_age_and_by_the_readers_stop_button(
    fake: FakeSlack, client: AsyncWebClient
) -> None:
    alice = fake.add_user("alice")
    dm = fake.dm(alice)
    root = await fake.say(dm, alice, "hello")
    old = await client.chat_startStream(channel=dm.id, thread_ts=root.ts, markdown_text="a")
    fake.clock.advance(301)
    late = client.chat_appendStream(channel=dm.id, ts=old["ts"], markdown_text="b")
    assert await _error(late) == "message_not_in_streaming_state"
    new = await client.chat_startStream(channel=dm.id, thread_ts=root.ts, markdown_text="a")
    fake.streams.stop_by_user(fake.messages(dm, by=fake.bot)[-1])
    stopped = client.chat_stopStream(channel=dm.id, ts=new["ts"], markdown_text="b")
    assert await _error(stopped) == "stopped_by_user"


async def test_status_is_cleared_by_a_post_expires_and_knows_when_it_is_late(
    fake: FakeSlack, client: AsyncWebClient
) -> None:
    alice = fake.add_user("alice")
    dm = fake.dm(alice)
    root = await fake.say(dm, alice, "hello")
    thread = (dm.id, root.ts)
    where: dict[str, Any] = {"channel_id": dm.id, "thread_ts": root.ts}
    await client.assistant_threads_setStatus(**where, status="is thinking…")
    assert fake.statuses.current(thread) == "is thinking…"
    fake.clock.advance(121)
    assert fake.statuses.current(thread) == ""
    await client.assistant_threads_setStatus(**where, status="is thinking…")
    await client.chat_postMessage(channel=dm.id, thread_ts=root.ts, text="hi")
    assert fake.statuses.stuck == []
    assert fake.statuses.late == []
    await client.assistant_threads_setStatus(**where, status="is thinking…")
    assert [change.thread for change in fake.statuses.late] == [thread]
    assert fake.statuses.stuck == [thread]
    await client.assistant_threads_setStatus(**where, status="")
    assert fake.statuses.stuck == []


async def test_faults_come_once_and_in_the_form_asked_for(
    fake: FakeSlack, client: AsyncWebClient
) -> None:
    channel = fake.add_channel("general")

    def post() -> object:
        return client.chat_postMessage(channel=channel.id, text="hi")

    fake.faults.next("chat.postMessage", status=429, retry_after=7)
    with pytest.raises(SlackApiError) as limited:
        await post()  # type: ignore[misc]
    assert limited.value.response.headers["Retry-After"] == "7"
    fake.faults.next("chat.postMessage", ok_false="fatal_error")
    assert await _error(post()) == "fatal_error"
    fake.faults.next("chat.postMessage", html=503)
    with pytest.raises(SlackApiError) as html:
        await post()  # type: ignore[misc]
    assert html.value.response.status_code == 503
    fake.faults.next("chat.postMessage", reset=True)
    with pytest.raises(aiohttp.ClientError):
        await post()  # type: ignore[misc]
    fake.faults.next("chat.postMessage", hang=30)
    hasty = AsyncWebClient(token=BOT_TOKEN, base_url=fake.api_url, timeout=1, retry_handlers=[])
    with pytest.raises(asyncio.TimeoutError):
        await hasty.chat_postMessage(channel=channel.id, text="hi")
    assert fake.messages(channel, by=fake.bot) == []
    fake.faults.next("chat.postMessage", lost=True)
    with pytest.raises(aiohttp.ClientError):
        await post()  # type: ignore[misc]
    assert len(fake.messages(channel, by=fake.bot)) == 1
    await post()  # type: ignore[misc]
    assert fake.faults.pending == 0


async def test_the_sdks_retry_handlers_run_against_it(fake: FakeSlack) -> None:
    channel = fake.add_channel("general")
    retrying = AsyncWebClient(
        token=BOT_TOKEN,
        base_url=fake.api_url,
        retry_handlers=[AsyncRateLimitErrorRetryHandler(), AsyncConnectionErrorRetryHandler()],
    )
    fake.faults.next("chat.postMessage", status=429, retry_after=0)
    await retrying.chat_postMessage(channel=channel.id, text="hi")
    fake.faults.next("chat.postMessage", lost=True)
    await retrying.chat_postMessage(channel=channel.id, text="twice")
    texts = [message.text for message in fake.messages(channel, by=fake.bot)]
    assert texts == ["hi", "twice", "twice"], "a lost answer doubles a naive retry"


async def test_history_is_limited_to_one_call_a_minute_for_unlisted_apps(
    fake: FakeSlack, client: AsyncWebClient
) -> None:
    channel = fake.add_channel("general")
    fake.limits.unlisted_app()
    await client.conversations_history(channel=channel.id)
    with pytest.raises(SlackApiError) as caught:
        await client.conversations_history(channel=channel.id)
    assert caught.value.response.status_code == 429
    assert 55 <= int(caught.value.response.headers["Retry-After"]) <= 60
    fake.clock.advance(61)
    await client.conversations_history(channel=channel.id)


async def _call_an_unknown_method() -> None:
    async with FakeSlack() as fake:
        client = AsyncWebClient(token=BOT_TOKEN, base_url=fake.api_url)
        assert await _error(client.chat_meMessage(channel="C1", text="waves")) == ("unknown_method")


async def test_an_unknown_method_fails_the_test() -> None:
    with pytest.raises(AssertionError, match=r"chat\.meMessage"):
        await _call_an_unknown_method()


async def test_only_the_reader_sees_an_ephemeral_and_home_is_published(
    fake: FakeSlack, client: AsyncWebClient
) -> None:
    alice = fake.add_user("alice")
    channel = fake.add_channel("general", [alice, fake.bot])
    await client.chat_postEphemeral(channel=channel.id, user=alice.id, text="psst")
    assert (await fake.wait_for_ephemeral(alice)).text == "psst"
    assert fake.messages(channel) == []
    await client.views_publish(user_id=alice.id, view={"type": "home", "blocks": []})
    assert fake.workspace.views[alice.id] == {"type": "home", "blocks": []}
    message = await fake.say(channel, alice, "nice")
    await client.reactions_add(channel=channel.id, timestamp=message.ts, name="wave")
    assert message.reactions == {"wave": {fake.bot.id}}
    profile = await client.users_info(user=alice.id)
    assert profile["user"]["profile"]["display_name"] == "alice"
