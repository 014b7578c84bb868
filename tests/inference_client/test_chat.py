"""Whole replies, and every way in which asking for one can fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from inference_client import (
    BadAnswer,
    BearerAuth,
    Busy,
    ChatMessage,
    InferenceError,
    Refused,
    Reply,
    SamplingOptions,
    ServerFailed,
    TimedOut,
    Timings,
    Unreachable,
    Usage,
)
from tests.fakes.model import FakeModel
from tests.inference_client.conftest import HELLO
from tests.inference_client.raw_server import OK_JSON, raw_server

if TYPE_CHECKING:
    from tests.inference_client.conftest import ClientFor

ONCE: dict[str, Any] = {"attempts": 1}


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_reply_with_all_its_parts(model: FakeModel, client_for: ClientFor) -> None:
    client = client_for(model.url)
    first = await client.chat(HELLO, request_id="abc-1")
    assert first == Reply(
        text="I heard: hello there",
        finish_reason="stop",
        usage=Usage(prompt_tokens=3, completion_tokens=4, cached_tokens=0),
        timings=Timings(),
        request_id="abc-1",
    )
    longer = [*HELLO, ChatMessage("assistant", first.text), ChatMessage("user", "and?")]
    second = await client.chat(longer)
    assert second.usage.cached_tokens == 3
    assert second.request_id


async def test_what_the_server_receives(model: FakeModel, client_for: ClientFor) -> None:
    await client_for(model.url).chat(
        [ChatMessage("user", "🙂 שלום", name="Zoë B")],
        SamplingOptions(max_tokens=2, stop=("x",), extra={"top_k": 5}),
        request_id="r1",
    )
    assert model.requests == [
        {
            "model": "fake-model",
            "messages": [{"role": "user", "content": "🙂 שלום", "name": "Zoë B"}],
            "max_tokens": 2,
            "stop": ["x"],
            "top_k": 5,
            "stream": False,
        }
    ]
    headers = model.received[0].headers
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"] == "r1"
    assert "authorization" not in headers


async def test_a_reply_that_hit_its_limit_says_so(model: FakeModel, client_for: ClientFor) -> None:
    reply = await client_for(model.url).chat(HELLO, SamplingOptions(max_tokens=2))
    assert (reply.text, reply.finish_reason) == ("I heard:", "length")


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
async def test_the_address_may_be_written_in_several_ways(
    model: FakeModel, client_for: ClientFor, path: str
) -> None:
    assert (await client_for(model.root_url + path).chat(HELLO)).text == "I heard: hello there"


async def test_a_server_that_says_only_the_text(client_for: ClientFor) -> None:
    async with raw_server(OK_JSON, b'{"choices":[{"message":{"content":"hey"}}]}') as server:
        reply = await client_for(server.url).chat(HELLO, request_id="mine")
    assert reply == Reply("hey", None, Usage(), None, "mine")


async def test_the_servers_own_request_id_wins(client_for: ClientFor) -> None:
    head = OK_JSON.replace(b"\r\n\r\n", b"\r\nX-Amzn-RequestId: aws-7\r\n\r\n")
    async with raw_server(head, b'{"choices":[{"message":{"content":"hey"}}]}') as server:
        assert (await client_for(server.url).chat(HELLO)).request_id == "aws-7"


async def test_the_key_is_sent(client_for: ClientFor) -> None:
    async with FakeModel(bearer="s3cret") as model:
        client = client_for(model.url, auth=BearerAuth("s3cret"))
        assert (await client.chat(HELLO)).text == "I heard: hello there"


async def test_a_wrong_key_is_refused_once_and_kept_out_of_the_text(client_for: ClientFor) -> None:
    async with FakeModel(bearer="right") as model:
        client = client_for(model.url, auth=BearerAuth("wrong-key"))
        with pytest.raises(Refused, match="check that it is the right one") as caught:
            await client.chat(HELLO)
        assert len(model.received) == 1
    assert caught.value.status == 401
    assert caught.value.code == "invalid_api_key"
    assert not caught.value.retryable


async def test_a_key_that_the_server_repeats_is_hidden(
    model: FakeModel, client_for: ClientFor
) -> None:
    error = {"error": {"message": "Incorrect key: wrong-key"}}
    model.faults.status(401, body=json.dumps(error))
    with pytest.raises(Refused) as caught:
        await client_for(model.url, auth=BearerAuth("wrong-key")).chat(HELLO)
    assert "wrong-key" not in str(caught.value)
    assert "Incorrect key: ***" in str(caught.value)


async def test_a_bad_request_names_its_field(model: FakeModel, client_for: ClientFor) -> None:
    with pytest.raises(Refused, match="field messages") as caught:
        await client_for(model.url).chat([])
    assert (caught.value.status, caught.value.field) == (400, "messages")
    assert len(model.received) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (413, {}),
        (400, {"code": "context_length_exceeded", "message": "8192 tokens at most"}),
        (400, {"type": "exceed_context_size_error"}),
        (400, {"message": "the request exceeds the available context size. try increasing it"}),
        (400, {"message": "This model's maximum context length is 4096 tokens. However, you"}),
        (400, {"message": "The prompt (total length 9) is too long to fit into the model"}),
        (400, {"message": "prompt is too long: 200001 tokens > 200000 maximum"}),
        (422, {"message": "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"}),
        (400, {"message": "The input token count (9) exceeds the maximum number of tokens"}),
        (400, {"message": "Requested tokens (700) exceed context window of 512"}),
        (429, {"message": "Request too large for gpt-4 on tokens per min (TPM): Limit 10000"}),
        (500, {"message": "the request exceeds the available context size"}),
    ],
)
async def test_too_long(
    model: FakeModel, client_for: ClientFor, status: int, error: dict[str, str]
) -> None:
    model.faults.status(status, body=json.dumps({"error": error}))
    with pytest.raises(Refused) as caught:
        await client_for(model.url).chat(HELLO)
    assert caught.value.too_long
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (429, "Rate limit reached on tokens per min (TPM): Limit 10000, Used 9999"),
        (429, "Requests have exceeded the token rate limit"),
        (400, "temperature must be below 2"),
        (500, "out of memory"),
        (401, "The key is too long"),
    ],
)
async def test_not_too_long(
    model: FakeModel, client_for: ClientFor, status: int, words: str
) -> None:
    model.faults.status(status, body=json.dumps({"error": {"message": words}}))
    with pytest.raises(InferenceError) as caught:
        await client_for(model.url, **ONCE).chat(HELLO)
    assert not getattr(caught.value, "too_long", False)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (403, Refused),
        (404, Refused),
        (422, Refused),
        (418, Refused),
        (408, Busy),
        (429, Busy),
        (500, ServerFailed),
        (502, ServerFailed),
        (503, ServerFailed),
        (504, ServerFailed),
    ],
)
async def test_each_status_is_one_kind_of_error(
    model: FakeModel, client_for: ClientFor, status: int, expected: type[InferenceError]
) -> None:
    model.faults.status(status)
    with pytest.raises(expected, match=f"status {status}") as caught:
        await client_for(model.url, **ONCE).chat(HELLO, request_id="the-id")
    assert type(caught.value) is expected
    assert caught.value.request_id == "the-id"
    assert caught.value.retryable == (expected is not Refused)


async def test_a_used_up_account_is_not_asked_again(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.faults.status(429, body='{"error":{"code":"insufficient_quota","message":"pay"}}')
    with pytest.raises(Refused, match="quota"):
        await client_for(model.url).chat(HELLO)
    assert len(model.requests) == 1


async def test_a_redirect_is_not_followed(model: FakeModel, client_for: ClientFor) -> None:
    model.faults.status(307, location="/v1/elsewhere")
    with pytest.raises(Refused, match="redirects are not followed") as caught:
        await client_for(model.url).chat(HELLO)
    assert caught.value.status == 307
    assert [r.path for r in model.received] == ["/v1/chat/completions"]


async def test_nobody_listens(client_for: ClientFor) -> None:
    client = client_for(f"http://127.0.0.1:{_closed_port()}", **ONCE)
    with pytest.raises(Unreachable, match=r"Connection refused.*Is it running") as caught:
        await client.chat(HELLO)
    assert caught.value.retryable


async def test_a_server_that_does_not_speak_tls(client_for: ClientFor) -> None:
    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=r"TLS: .*Is it running"):
            await client_for(f"https://127.0.0.1:{port}", **ONCE).chat(HELLO)


async def test_no_connection_in_time(client_for: ClientFor) -> None:
    # A listener whose queue is full drops further connection requests.
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(8):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        client = client_for(f"http://127.0.0.1:{address[1]}", connect_timeout=0.2, **ONCE)
        with pytest.raises(TimedOut, match=r"No connection to the model within 0\.2 sec") as caught:
            await client.chat(HELLO)
    assert caught.value.phase == "connect"


async def test_no_answer_in_time(model: FakeModel, client_for: ClientFor) -> None:
    model.faults.hang()
    with pytest.raises(TimedOut) as caught:
        await client_for(model.url, answer_timeout=0.1, **ONCE).chat(HELLO)
    assert caught.value.phase == "answer"


async def test_the_total_limit_holds_over_the_others(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.faults.hang(times=9)
    client = client_for(model.url, total_timeout=0.3, answer_timeout=60, attempts=9)
    started = asyncio.get_running_loop().time()
    with pytest.raises(TimedOut, match=r"within 0\.3 seconds") as caught:
        await client.chat(HELLO)
    assert caught.value.phase == "total"
    assert asyncio.get_running_loop().time() - started < 5


async def test_a_connection_cut_in_the_answer(model: FakeModel, client_for: ClientFor) -> None:
    model.faults.drop()
    with pytest.raises(Unreachable, match="broke"):
        await client_for(model.url, **ONCE).chat(HELLO)


@pytest.mark.parametrize(
    "pieces",
    [
        [b""],
        [b"garbage\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"],
        [b"HTTP/1.1 999999 ?\r\n\r\n"],
    ],
)
async def test_what_is_not_http(client_for: ClientFor, pieces: list[bytes]) -> None:
    async with raw_server(*pieces) as server:
        with pytest.raises(Unreachable):
            await client_for(server.url, **ONCE).chat(HELLO)


async def test_a_success_that_is_no_reply(model: FakeModel, client_for: ClientFor) -> None:
    model.faults.garbage()
    with pytest.raises(BadAnswer, match="not JSON"):
        await client_for(model.url, **ONCE).chat(HELLO)


async def test_garbled_compression(client_for: ClientFor) -> None:
    head = OK_JSON.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    async with raw_server(head, b"not gzip at all") as server:
        with pytest.raises(BadAnswer, match="garbled"):
            await client_for(server.url, **ONCE).chat(HELLO)


async def test_an_error_in_a_success(client_for: ClientFor) -> None:
    async with raw_server(OK_JSON, b'{"error":{"message":"no slots","code":503}}') as server:
        with pytest.raises(ServerFailed, match="no slots"):
            await client_for(server.url, **ONCE).chat(HELLO)


async def test_an_answer_without_end_is_not_read_to_it(client_for: ClientFor) -> None:
    async with raw_server(OK_JSON, *[b" " * 1000] * 500) as server:
        with pytest.raises(BadAnswer, match="larger than 5000 bytes"):
            await client_for(server.url, max_answer_bytes=5000, **ONCE).chat(HELLO)


async def test_a_cancelled_call_leaves_the_server_and_the_client_in_order(
    model: FakeModel, client_for: ClientFor
) -> None:
    client = client_for(model.url)
    model.faults.hang()
    call = asyncio.create_task(client.chat(HELLO))
    while not model.requests:
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await client.chat(HELLO)).text == "I heard: hello there"


async def test_fifty_at_once(model: FakeModel, client_for: ClientFor) -> None:
    client = client_for(model.url, max_connections=10)
    asked = [client.chat([ChatMessage("user", f"number {n}")]) for n in range(50)]
    replies = await asyncio.gather(*asked)
    assert [r.text for r in replies] == [f"I heard: number {n}" for n in range(50)]


async def test_connections_are_used_again(client_for: ClientFor, model: FakeModel) -> None:
    ports = set()
    client = client_for(model.url)
    model.reply_with("ok")
    for _ in range(3):
        await client.chat(HELLO)
        async with client.stream(HELLO) as reply:
            _ = [text async for text in reply]
        ports.update(r.peer for r in model.received)
    assert len(ports) == 1


async def test_a_closed_client_says_so(model: FakeModel, client_for: ClientFor) -> None:
    client = client_for(model.url)
    await client.chat(HELLO)
    await client.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await client.chat(HELLO)
