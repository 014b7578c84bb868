"""What is tried again, how often, after how long."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_client import (
    BadAnswer,
    Busy,
    InferenceError,
    Refused,
    ServerFailed,
    TimedOut,
    Unreachable,
)
from inference_client.refusals import retry_after
from tests.inference_client.conftest import HELLO

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from inference_client import InferenceClient
    from tests.fakes.model import FakeModel
    from tests.inference_client.conftest import ClientFor

    Ask = Callable[[InferenceClient], Awaitable[str]]

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


async def _chat(client: InferenceClient) -> str:
    return (await client.chat(HELLO)).text


async def _stream(client: InferenceClient) -> str:
    async with client.stream(HELLO) as reply:
        return "".join([text async for text in reply])


BOTH = pytest.mark.parametrize("ask", [_chat, _stream])


@BOTH
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_passing_failure_is_not_seen(
    model: FakeModel, client_for: ClientFor, ask: Ask, status: int
) -> None:
    model.faults.status(status, times=2)
    assert await ask(client_for(model.url)) == "I heard: hello there"
    assert len(model.requests) == 3


@BOTH
async def test_attempts_end(model: FakeModel, client_for: ClientFor, ask: Ask) -> None:
    model.faults.status(503, times=9)
    with pytest.raises(ServerFailed):
        await ask(client_for(model.url, attempts=4))
    assert len(model.requests) == 4


@BOTH
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_a_refusal_is_final(
    model: FakeModel, client_for: ClientFor, ask: Ask, status: int
) -> None:
    model.faults.status(status, times=9)
    with pytest.raises(Refused):
        await ask(client_for(model.url))
    assert len(model.requests) == 1


@BOTH
async def test_a_hung_server_is_asked_again(
    model: FakeModel, client_for: ClientFor, ask: Ask
) -> None:
    model.faults.hang()
    client = client_for(model.url, answer_timeout=0.5, first_token_timeout=0.5)
    assert await ask(client) == "I heard: hello there"
    assert len(model.requests) == 2


@BOTH
async def test_a_lost_answer_is_asked_for_again(
    model: FakeModel, client_for: ClientFor, ask: Ask
) -> None:
    model.faults.drop()
    assert await ask(client_for(model.url)) == "I heard: hello there"
    assert len(model.requests) == 2


@BOTH
async def test_garbage_is_asked_for_again(
    model: FakeModel, client_for: ClientFor, ask: Ask
) -> None:
    model.faults.garbage()
    assert await ask(client_for(model.url)) == "I heard: hello there"
    model.faults.garbage(times=9)
    with pytest.raises(BadAnswer):
        await ask(client_for(model.url))


async def test_a_server_that_comes_up_late(model: FakeModel, client_for: ClientFor) -> None:
    await model.down()
    client = client_for(model.url, attempts=50, backoff_initial=0.05, backoff_max=0.05)
    call = asyncio.create_task(client.chat(HELLO))
    await asyncio.sleep(0.2)
    assert not call.done()
    await model.up()
    assert (await call).text == "I heard: hello there"


async def test_a_server_that_restarted_between_two_calls(
    model: FakeModel, client_for: ClientFor
) -> None:
    client = client_for(model.url)
    await client.chat(HELLO)
    await model.down()
    with pytest.raises(Unreachable):
        await client.chat(HELLO)
    await model.up()
    assert (await client.chat(HELLO)).text == "I heard: hello there"


@BOTH
async def test_retry_after_is_waited_for(model: FakeModel, client_for: ClientFor, ask: Ask) -> None:
    model.faults.status(429, retry_after=0.3)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await ask(client_for(model.url))
    assert loop.time() - started >= 0.3


async def test_retry_after_zero_means_at_once(model: FakeModel, client_for: ClientFor) -> None:
    model.faults.status(503, retry_after=0)
    client = client_for(model.url, backoff_initial=30, backoff_max=30, total_timeout=20)
    assert (await client.chat(HELLO)).text == "I heard: hello there"


async def test_a_date_as_retry_after(model: FakeModel, client_for: ClientFor) -> None:
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    model.faults.status(429, retry_after=past)
    client = client_for(model.url, backoff_initial=30, backoff_max=30, total_timeout=20)
    assert (await client.chat(HELLO)).text == "I heard: hello there"


@pytest.mark.parametrize("status", [429, 503])
async def test_no_waiting_past_the_deadline(
    model: FakeModel, client_for: ClientFor, status: int
) -> None:
    model.faults.status(status, retry_after=3600)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises((Busy, ServerFailed)) as caught:
        await client_for(model.url).chat(HELLO)
    assert loop.time() - started < 10
    assert getattr(caught.value, "retry_after", None) == 3600
    assert len(model.requests) == 1


async def test_pauses_grow(model: FakeModel, client_for: ClientFor) -> None:
    times: list[float] = []
    loop = asyncio.get_running_loop()

    def note(_: object) -> str:
        times.append(loop.time())
        raise AssertionError  # aiohttp answers 500

    model.reply_with(note)
    client = client_for(model.url, attempts=4, backoff_initial=0.1, backoff_max=10.0)
    with pytest.raises(ServerFailed):
        await client.chat(HELLO)
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert len(pauses) == 3
    for pause, least in zip(pauses, [0.05, 0.1, 0.2], strict=True):
        assert pause >= least


async def test_errors_in_the_body_of_a_stream_are_retried_before_the_first_word(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.faults.error_in_stream(after_words=0)
    assert await _stream(client_for(model.url)) == "I heard: hello there"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": 429, "message": "m"}, Busy),
        ({"code": "rate_limit_exceeded"}, Busy),
        ({"type": "overloaded_error"}, Busy),
        ({"code": 400}, Refused),
        ({"type": "invalid_request_error", "param": "seed"}, Refused),
        ({"code": "context_length_exceeded"}, Refused),
        ({"type": "authentication_error"}, Refused),
        ({"code": 503}, ServerFailed),
        ({"code": 77, "message": "?"}, ServerFailed),
        ({}, ServerFailed),
        ("it broke", ServerFailed),
    ],
)
async def test_kinds_of_errors_in_a_stream(
    model: FakeModel, client_for: ClientFor, error: object, expected: type[InferenceError]
) -> None:
    model.faults.error_in_stream(after_words=0, error=error)  # type: ignore[arg-type]
    with pytest.raises(expected):
        await _stream(client_for(model.url, attempts=1))


async def test_a_stream_that_never_begins(model: FakeModel, client_for: ClientFor) -> None:
    model.faults.silence(after_words=0, times=2)
    client = client_for(model.url, first_token_timeout=0.5, attempts=2)
    with pytest.raises(TimedOut, match=r"No word from the model within 0\.5 seconds") as caught:
        await _stream(client)
    assert caught.value.phase == "first_token"
    assert len(model.requests) == 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("-5", 0.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30.0),
        ("Sun Mar  1 12:00:30 2026", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
    ],
)
def test_forms_of_retry_after(value: str | None, expected: float | None) -> None:
    assert retry_after(value, NOW) == expected


@given(st.text(max_size=40))
def test_no_retry_after_breaks_it(value: str) -> None:
    seconds = retry_after(value, NOW)
    assert seconds is None or seconds >= 0


async def test_logs_of_a_retry_hold_no_text_of_the_conversation(
    model: FakeModel, client_for: ClientFor, capsys: pytest.CaptureFixture[str]
) -> None:
    model.faults.status(503, body=json.dumps({"error": "busy"}))
    await client_for(model.url).chat(HELLO)
    printed = capsys.readouterr()
    assert "hello there" not in printed.out + printed.err
