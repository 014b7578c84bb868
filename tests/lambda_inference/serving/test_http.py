"""The real server in a process of its own, asked by real clients."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.lambda_inference.conftest import RunningServer, running

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"
HI: list[Any] = [{"role": "user", "content": "hello there"}]


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture
def sdk(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ready(client: httpx.Client) -> None:
    end = time.monotonic() + 30
    while client.get("/healthz").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_health_models_and_a_reply(client: httpx.Client) -> None:
    ready(client)
    assert client.get("/healthz").json()["model"] == "tiny"
    assert client.get("/v1/models").json()["data"][0]["id"] == "tiny"
    body = {"messages": HI, "seed": 1, "max_tokens": 9}
    first, second = (client.post(CHAT, json=body).json() for _ in range(2))
    assert first["choices"] == second["choices"]
    assert first["choices"][0]["message"]["content"]
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert set(first["timings"]) == {"queue_ms", "load_ms", "prefill_ms", "decode_ms"}


def test_a_clients_request_id_comes_back(client: httpx.Client) -> None:
    mine = {"X-Request-Id": "trace-7:a/b"}
    body = {"messages": HI, "max_tokens": 2}
    for answer in (
        client.post(CHAT, json=body, headers=mine),
        client.post(CHAT, json={**body, "stream": True}, headers=mine),
        client.get("/healthz", headers=mine),
        client.get("/nowhere", headers=mine),
        client.post(CHAT, content=b" " * 8_000_000, headers=mine),
    ):
        assert answer.headers["x-request-id"] == "trace-7:a/b"
    assert client.get("/nowhere", headers=mine).json()["error"]["request_id"] == "trace-7:a/b"


@pytest.mark.parametrize("bad", ["", "two words", "x" * 101, "a\tb", "é", "日"])
def test_a_request_id_that_would_spoil_a_log_is_replaced(client: httpx.Client, bad: str) -> None:
    answer = client.get("/healthz", headers={b"x-request-id": bad.encode()})
    assert answer.headers["x-request-id"].startswith("req_")


def test_the_warm_ping_is_answered_over_http_too(client: httpx.Client) -> None:
    ready(client)
    assert client.post("/", json={"warm": True}).json() == {"warm": True, "model": "ok"}
    for body in (b"", b'{"warm": 1}', b"[true]", b"\xff", b"[" * 900, b" " * 5000):
        assert client.post("/", content=body).status_code == 404
    assert client.get("/").status_code == 404


def test_a_streamed_reply_is_the_same_reply(client: httpx.Client) -> None:
    body = {"messages": HI, "seed": 5, "max_tokens": 24}
    whole = client.post(CHAT, json=body).json()["choices"][0]
    with client.stream("POST", CHAT, json={**body, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"]
    assert all("usage" not in chunk for chunk in chunks)


def test_the_openai_client_talks_to_it(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["tiny"]
    answer = sdk.chat.completions.create(
        model="tiny", messages=HI, seed=3, max_tokens=8, stop=["zzz"], logit_bias={"5": -1}
    )
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 8


def test_the_openai_client_streams_from_it(sdk: openai.OpenAI) -> None:
    options: Any = {"model": "tiny", "messages": HI, "seed": 3, "max_tokens": 8}
    whole = sdk.chat.completions.create(**options)
    chunks = list(
        sdk.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_the_openai_client_understands_its_refusals(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="tiny", messages=HI, n=99)
    assert caught.value.param == "n"
    assert caught.value.request_id is not None
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("other")
    with pytest.raises(openai.APIStatusError) as too_long:
        sdk.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "x" * 2_000_000}]
        )
    assert too_long.value.status_code == 413


def test_a_conversation_goes_on_from_its_state(client: httpx.Client) -> None:
    messages = list(HI)
    cached = []
    for turn in range(5):
        body = {"messages": messages, "seed": turn, "max_tokens": 6}
        answer = client.post(CHAT, json=body).json()
        cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
        said = answer["choices"][0]["message"]["content"]
        messages += [
            {"role": "assistant", "content": said},
            {"role": "user", "content": f"t{turn}"},
        ]
    assert cached[1:] == sorted(cached[1:])
    assert cached[1] > 0


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: RunningServer) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(head + b"Content-Length: 99999999\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 413")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        assert bytes_taken(raw) < 32 << 20, "a body without an end was read on and on"


def test_a_client_that_sends_all_before_it_reads_gets_the_refusal(client: httpx.Client) -> None:
    for _ in range(5):
        answer = client.post(CHAT, content=b" " * 8_000_000)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_long"


def bytes_taken(raw: socket.socket, at_most: int = 64 << 20) -> int:
    """How much of an endless chunked body the server takes before it hangs up."""
    chunk, taken = b"10000\r\n" + b"x" * 0x10000 + b"\r\n", 0
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while taken < at_most:
            raw.sendall(chunk)
            taken += len(chunk)
    return taken


def test_many_at_once_are_all_answered(server: RunningServer) -> None:
    statuses: list[int] = []

    def ask(number: int) -> None:
        body = {"messages": [{"role": "user", "content": f"hello {number}"}], "max_tokens": 4}
        statuses.append(httpx.post(server.url + CHAT, json=body, timeout=60).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [200] * 40


def test_replies_side_by_side_are_those_made_alone(model_file: Path) -> None:
    bodies = [
        {"messages": [{"role": "user", "content": f"hello {n}"}], "seed": n, "max_tokens": 20}
        for n in range(9)
    ]
    with running(model_file, FRIEND_SERVER_PARALLEL="3") as server:
        alone = [httpx.post(server.url + CHAT, json=body).json()["choices"] for body in bodies]
        with ThreadPoolExecutor(9) as pool:
            answers = pool.map(lambda body: httpx.post(server.url + CHAT, json=body), bodies)
            assert [answer.json()["choices"] for answer in answers] == alone


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_hangs_up_frees_the_model(
    model_file: Path, endless: dict[str, Any], streamed: bool
) -> None:
    limits = {
        "FRIEND_SERVER_MAX_TOKENS_LIMIT": "1000000",
        "FRIEND_SERVER_PARALLEL": "1",
        "FRIEND_SERVER_QUEUE": "0",
    }
    with running(model_file, **limits) as server, httpx.Client(base_url=server.url) as client:
        ready(client)
        body = {**endless, "stream": streamed}
        small = {"messages": HI, "max_tokens": 2}
        if streamed:
            with httpx.stream("POST", server.url + CHAT, json=body, timeout=30) as response:
                lines = response.iter_lines()  # an iterator let go of would hang up at once
                next(lines)
                busy = client.post(CHAT, json=small)
            assert busy.status_code == 429
            assert int(busy.headers["retry-after"]) >= 1
        else:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(server.url + CHAT, json=body, timeout=0.5)
        end = time.monotonic() + 20
        while client.post(CHAT, json=small).status_code != 200:
            assert time.monotonic() < end, "the reply for nobody went on"
            time.sleep(0.05)


def test_the_reply_time_limit_ends_a_reply_cleanly(
    model_file: Path, endless: dict[str, Any]
) -> None:
    limits = {"FRIEND_SERVER_MAX_TOKENS_LIMIT": "1000000", "FRIEND_SERVER_REPLY_SECONDS": "1"}
    with running(model_file, **limits) as server, httpx.Client(base_url=server.url) as client:
        ready(client)
        choice = client.post(CHAT, json=endless, timeout=30).json()["choices"][0]
        assert choice["finish_reason"] == "length"
        assert choice["message"]["content"]


def test_a_key_is_asked_for(model_file: Path) -> None:
    with running(model_file, FRIEND_SERVER_KEY="sesame") as server:
        url = f"{server.url}/v1"
        with (
            openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as stranger,
            openai.OpenAI(base_url=url, api_key="sesame", max_retries=0) as friend,
        ):
            with pytest.raises(openai.AuthenticationError):
                stranger.models.list()
            assert [model.id for model in friend.models.list()] == ["tiny"]
        assert httpx.post(server.url, json={"warm": True}).json()["warm"] is True


def test_a_key_may_have_letters_beyond_ascii(model_file: Path) -> None:
    with running(model_file, FRIEND_SERVER_KEY="sésame 日") as server:
        for key, status in (("sésame 日", 200), ("sésame", 401)):
            headers = {"authorization": f"Bearer {key}".encode()}
            assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == status
