"""Replies through a Function URL, word by word."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from inference_client import ServerFailed, Unreachable
from tests.e2e.lambda_scenarios.conftest import FunctionMaker
from tests.e2e.lambda_scenarios.talking import (
    CHAT,
    HELLO,
    KEYS,
    chat_body,
    client,
    long_reply,
    talk,
)

pytestmark = [pytest.mark.e2e, getattr(pytest.mark, "lambda")]


async def test_streaming_the_first_words_come_before_the_last_are_made(
    friend: FunctionMaker, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    async with friend("gate", gate, keys=KEYS) as function, client(function) as model:
        async with model.stream(HELLO, long_reply(40)) as reply:
            first = await anext(reply)
            assert first
            assert not gate.exists()  # the tenth word waits for it
            gate.touch()
            rest = [text async for text in reply]
        assert rest
        assert reply.final.finish_reason == "length"
        assert reply.final.usage.completion_tokens == 40
        assert reply.final.text == first + "".join(rest)


async def test_a_whole_reply_and_a_streamed_one_are_the_same(friend: FunctionMaker) -> None:
    async with friend(keys=KEYS) as function, client(function) as model:
        whole = await model.chat(HELLO, long_reply(20))
        async with model.stream(HELLO, long_reply(20)) as reply:
            streamed = "".join([text async for text in reply])
        assert streamed == whole.text
        assert reply.final.usage.cached_tokens > 0  # the same environment, its cache warm
        assert await model.models() == ["tiny"]
        assert (await model.health()).ok
        assert function.started == 1


async def test_refusals_have_their_status_and_words(friend: FunctionMaker) -> None:
    async with friend() as function, httpx.AsyncClient(base_url=function.url) as http:
        # AuthType NONE and no key: nobody is let in.
        response = await http.post(CHAT, json=chat_body(1))
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "no_authorisation"
        assert response.headers["x-request-id"].startswith("req_")
    secret = {"FRIEND_SERVER_KEY": "sesame"}
    async with (
        friend(environment=secret) as function,
        httpx.AsyncClient(base_url=function.url) as http,
    ):
        http.headers["authorization"] = "Bearer sesame"
        assert (await http.post(CHAT, json=chat_body(1))).status_code == 200
        wrong = await http.post(CHAT, json=chat_body(1, n=99))
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "n")
        assert (await http.get("/nowhere")).status_code == 404
        health = await http.head("/healthz")
        assert (health.status_code, health.content) == (200, b"")
        assert (await http.get(CHAT)).headers["allow"] == "POST"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_buffered_url_gets_one_document(friend: FunctionMaker, stream: bool) -> None:
    variables = {"FRIEND_LAMBDA_INVOKE_MODE": "BUFFERED", "FRIEND_SERVER_KEY": "sesame"}
    async with (
        friend(environment=variables, invoke_mode="BUFFERED") as function,
        httpx.AsyncClient(base_url=function.url) as http,
    ):
        http.headers["authorization"] = "Bearer sesame"
        response = await http.post(CHAT, json=chat_body(5, stream=stream))
        assert response.status_code == 200
        if stream:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.text.endswith("data: [DONE]\n\n")
        else:
            assert response.json()["usage"]["completion_tokens"] == 5


async def test_a_failing_engine_ends_the_stream_with_its_error(friend: FunctionMaker) -> None:
    async with friend("break", keys=KEYS) as function, client(function) as model:
        with pytest.raises(ServerFailed, match="Something went wrong") as error:
            await talk(model, long_reply(40))
        assert error.value.text_so_far
        # The environment goes on.
        assert (await model.chat(HELLO, long_reply(5))).usage.completion_tokens == 5
        assert function.started == 1


async def test_a_torn_stream_is_cut_and_counted(friend: FunctionMaker) -> None:
    async with friend("torn", keys=KEYS) as function, client(function) as model:
        with pytest.raises(Unreachable) as error:
            await talk(model, long_reply(40))
        assert error.value.text_so_far
        await function.settle()
        assert function.reports[-1].error == "Runtime.StreamError"  # it came in a trailer
        assert (await model.chat(HELLO, long_reply(5))).usage.completion_tokens == 5
        assert function.started == 1


async def test_nothing_is_lost_when_the_client_leaves(friend: FunctionMaker) -> None:
    async with friend("slow", "0.02", keys=KEYS) as function, client(function) as model:
        async with model.stream(HELLO, long_reply(30)) as reply:
            await anext(reply)
        await function.settle()  # Lambda tells no function that its client has gone
        assert function.reports[-1].error is None
        again = await model.chat(HELLO, long_reply(30))
        assert again.usage.completion_tokens == 30
        assert function.started == 1


async def test_events_that_are_no_request_are_answered(friend: FunctionMaker) -> None:
    async with friend() as function:
        for event in ({}, [], None, {"Records": []}):
            answer = await function.invoke(event)
            assert answer["statusCode"] == 400
            assert json.loads(answer["body"])["error"]["code"] == "unknown_event"


async def test_sigterm_ends_the_process_in_order(friend: FunctionMaker) -> None:
    async with friend(keys=KEYS) as function:
        async with client(function) as model:
            await model.chat(HELLO, long_reply(2))
        await function.settle()
        (environment,) = function.environments
        process = environment.process
        assert process is not None
        await environment.thaw()
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
