"""Replies word by word, from good servers and strange ones."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference_client import (
    BadAnswer,
    Busy,
    InferenceClient,
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
from tests.inference_client.conftest import HELLO, settings_for
from tests.inference_client.raw_server import OK_JSON, OK_STREAM, raw_server

if TYPE_CHECKING:
    from tests.fakes.model import FakeModel
    from tests.inference_client.conftest import ClientFor


def _chunk(text: str | None = None, finish: str | None = None, **more: object) -> str:
    delta = {} if text is None else {"content": text}
    return json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]} | more)


def _event(data: str, end: str = "\n") -> bytes:
    return f"data: {data}{end}{end}".encode()


async def _read(client: InferenceClient) -> tuple[list[str], Reply]:
    async with client.stream(HELLO, request_id="mine") as reply:
        texts = [text async for text in reply]
    return texts, reply.final


async def test_words_come_one_by_one(model: FakeModel, client_for: ClientFor) -> None:
    model.delay = 0.05
    model.reply_with("one two three")
    async with client_for(model.url).stream(HELLO, request_id="abc") as reply:
        assert reply.text == "one"
        seen = [(text, bool(model.answered)) async for text in reply]
        assert reply.request_id == "abc"
    assert [text for text, _ in seen] == ["one", " two", " three"]
    assert seen[0] == ("one", False)  # read before the server had said the rest
    assert reply.text == "one two three"
    assert reply.final == Reply(
        text="one two three",
        finish_reason="stop",
        usage=Usage(prompt_tokens=3, completion_tokens=3),
        timings=Timings(decode_ms=pytest.approx(150)),
        request_id="abc",
    )


async def test_the_stream_and_the_whole_reply_say_the_same(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.reply_with("  a\n\nb 🙂  ")
    client = client_for(model.url)
    texts, final = await _read(client)
    assert "".join(texts) == final.text == (await client.chat(HELLO)).text == "  a\n\nb 🙂  "


async def test_the_final_reply_is_not_given_early(model: FakeModel, client_for: ClientFor) -> None:
    stream = client_for(model.url).stream(HELLO)
    with pytest.raises(RuntimeError, match="async with"):
        _ = stream.final
    async with stream as reply:
        with pytest.raises(RuntimeError, match="not whole yet"):
            _ = reply.final
        async for _ in reply:
            break
        with pytest.raises(RuntimeError, match="not whole yet"):
            _ = reply.final
    with pytest.raises(RuntimeError, match="entered once"):
        await stream.__aenter__()


async def test_bad_options_are_told_before_anything_is_sent(
    model: FakeModel, client_for: ClientFor
) -> None:
    with pytest.raises(ValueError, match="cannot be sent as JSON"):
        client_for(model.url).stream(HELLO, SamplingOptions(temperature=float("nan")))
    assert not model.received


async def test_an_empty_reply(model: FakeModel, client_for: ClientFor) -> None:
    model.reply_with("")
    texts, final = await _read(client_for(model.url))
    assert (texts, final.text, final.finish_reason) == ([], "", "stop")


async def test_leaving_early_tells_the_server_to_stop(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.delay = 0.02
    model.reply_with("word " * 500)
    async with client_for(model.url).stream(HELLO) as reply:
        async for _ in reply:
            break
    async with asyncio.timeout(5):
        while not model.cancelled:
            await asyncio.sleep(0.01)
    assert not model.answered


async def test_cancelling_the_reader_tells_the_server_to_stop(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.faults.silence(after_words=1)
    client = client_for(model.url)
    reading = asyncio.create_task(_read(client))
    while not model.requests:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    async with asyncio.timeout(5):
        while not model.cancelled:
            await asyncio.sleep(0.01)


async def _broken(client: InferenceClient) -> tuple[str, InferenceError]:
    said: list[str] = []

    async def read() -> None:
        async with client.stream(HELLO) as reply:
            async for text in reply:
                said.append(text)  # noqa: PERF401 (what came before the error counts)

    with pytest.raises(InferenceError) as caught:
        await read()
    return "".join(said), caught.value


async def test_a_break_after_the_first_word_is_not_retried(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.faults.drop(after_words=2)
    said, error = await _broken(client_for(model.url))
    assert isinstance(error, Unreachable)
    assert error.text_so_far == said == "I heard:"
    assert error.retryable
    assert len(model.requests) == 1


async def test_a_silence_after_the_first_word(model: FakeModel, client_for: ClientFor) -> None:
    model.faults.silence(after_words=1)
    said, error = await _broken(client_for(model.url, between_tokens_timeout=0.2))
    assert isinstance(error, TimedOut)
    assert error.phase == "between_tokens"
    assert error.text_so_far == said == "I"
    assert len(model.requests) == 1


async def test_the_total_limit_ends_a_reply_that_never_does(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.delay = 0.02
    model.reply_with("word " * 500)
    said, error = await _broken(client_for(model.url, total_timeout=0.4))
    assert isinstance(error, TimedOut)
    assert error.phase == "total"
    assert error.text_so_far == said != ""


async def test_an_error_object_after_the_first_word(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.faults.error_in_stream(after_words=1, error={"message": "out of\nmemory"})
    said, error = await _broken(client_for(model.url))
    assert isinstance(error, ServerFailed)
    assert "out of memory" in str(error)
    assert error.text_so_far == said == "I"


_OOM = '{"message":"out of memory","code":500,"type":"server_error"}'
_ERRORS = {
    "error field of llama.cpp": f"error: {_OOM}\n\n",
    "error object": f'data: {{"error":{_OOM}}}\n\n',
    "error object and [DONE]": f'data: {{"error":{_OOM}}}\n\ndata: [DONE]\n\n',
    "error text": 'data: {"error":"out of memory"}\n\n',
    "object that is an error": 'data: {"object":"error","message":"out of memory","code":500}\n\n',
    "type that is an error": 'data: {"type":"error","error":{"message":"out of memory"}}\n\n',
    "event that is an error": 'event: error\ndata: {"message":"out of memory"}\n\n',
    "event that is an error in words": "event: error\ndata: out of memory\n\n",
    "bare object": f'{{"error":{_OOM}}}\n',
    "detail": 'data: {"detail":"out of memory"}\n\n',
    "choice that is an error": (
        'data: {"choices":[{"delta":{},"finish_reason":"error",'
        '"error":{"message":"out of memory"}}]}\n\n'
    ),
}


@pytest.mark.parametrize("shape", _ERRORS)
@pytest.mark.parametrize("after_words", [0, 2])
async def test_an_error_in_a_stream_of_any_shape(
    model: FakeModel, client_for: ClientFor, shape: str, after_words: int
) -> None:
    model.faults.frames(_ERRORS[shape], after_words=after_words)
    said, error = await _broken(client_for(model.url, attempts=1))
    assert isinstance(error, ServerFailed)
    assert "out of memory" in str(error)
    assert said == error.text_so_far == ("I heard:" if after_words else "")


async def test_an_error_before_the_first_word_is_tried_again(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.faults.frames(_ERRORS["error field of llama.cpp"])
    assert (await _read(client_for(model.url)))[1].text == "I heard: hello there"
    assert len(model.requests) == 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ('{"code":429,"message":"wait"}', Busy),
        ('{"type":"overloaded_error","message":"wait"}', Busy),
        ('{"code":400,"message":"no"}', Refused),
        ('{"object":"error","type":"BadRequestError","message":"no"}', Refused),
        ('{"type":"exceed_context_size_error","message":"no"}', Refused),
        ('{"code":"500","message":"no"}', ServerFailed),
    ],
)
async def test_an_error_in_a_stream_is_the_failure_it_is(
    model: FakeModel, client_for: ClientFor, error: str, expected: type[InferenceError]
) -> None:
    model.faults.frames(f"error: {error}\n\n")
    _, caught = await _broken(client_for(model.url, attempts=1))
    assert type(caught) is expected


async def test_comments_do_not_count_as_words(client_for: ClientFor) -> None:
    pieces = [OK_STREAM, _event(_chunk("hi")), *[b": keep-alive\n\n"] * 100]
    async with raw_server(*pieces, pause=0.02) as server:
        client = client_for(server.url, between_tokens_timeout=0.3)
        said, error = await _broken(client)
    assert (said, type(error)) == ("hi", TimedOut)


async def test_a_last_word_with_no_end_after_it_is_a_break(client_for: ClientFor) -> None:
    async with raw_server(OK_STREAM, _event(_chunk("hi"))) as server:
        said, error = await _broken(client_for(server.url))
    assert isinstance(error, Unreachable)
    assert "in the middle of a reply" in str(error)
    assert error.text_so_far == said == "hi"


_WHOLE = _event(_chunk("hi")) + _event(_chunk(None, "stop"))


@pytest.mark.parametrize(
    "pieces",
    [
        [_WHOLE + b"data: [DONE]\n\n"],
        [_WHOLE + b"data:[DONE]"],
        [_WHOLE],
        [_event(_chunk("hi", "stop"))],
        [_event(_chunk("hi")) + b"data: [DONE]\n\n"],
        [_WHOLE + b"data: [DONE]\n\ndata: {nonsense\n\n"],
        [b": hello\n\nevent: ping\ndata\n\n".replace(b"data\n", b"") + _WHOLE],
        [_event('{"choices":[]}') + _event('{"id":"x"}') + _WHOLE],
        [_event(_chunk("")) + _event(_chunk(None)) + _WHOLE],
        [b"data:\n\ndata: \n\n" + _event(_chunk("hi")) + b"data:\n\n" + b"data: [DONE]\n\n"],
    ],
    ids=[
        "done",
        "done without a blank line",
        "no done",
        "word and end in one",
        "no finish reason",
        "nonsense after done",
        "comments and other fields",
        "chunks without choices",
        "chunks without words",
        "empty frames",
    ],
)
async def test_ways_to_end_and_to_begin(client_for: ClientFor, pieces: list[bytes]) -> None:
    async with raw_server(OK_STREAM, *pieces) as server:
        texts, final = await _read(client_for(server.url, attempts=1))
    assert (texts, final.text, final.request_id) == (["hi"], "hi", "mine")
    assert final.usage == Usage()
    assert final.timings is None


async def test_a_connection_lost_after_the_end_of_the_reply_is_no_error(
    client_for: ClientFor,
) -> None:
    head = OK_STREAM.replace(b"Connection: close", b"Content-Length: 9999")
    async with raw_server(head, _WHOLE) as server:
        texts, final = await _read(client_for(server.url))
    assert (texts, final.finish_reason) == (["hi"], "stop")


async def test_a_server_that_does_not_stream(client_for: ClientFor) -> None:
    answer = {"choices": [{"message": {"content": "hi all"}, "finish_reason": "stop"}]}
    async with raw_server(OK_JSON, json.dumps(answer).encode()) as server:
        texts, final = await _read(client_for(server.url))
    assert (texts, final.text, final.finish_reason) == (["hi all"], "hi all", "stop")


async def test_an_empty_stream_is_asked_for_what_is_wrong(
    model: FakeModel, client_for: ClientFor
) -> None:
    def only_whole(body: dict[str, object]) -> web.Response:
        if body["stream"]:
            return web.Response(content_type="text/event-stream")
        words = {"error": {"message": "too long", "code": "context_length_exceeded"}}
        return web.json_response(words, status=400)

    model.rules.append(only_whole)
    with pytest.raises(Refused) as caught:
        await _read(client_for(model.url))
    assert caught.value.too_long
    assert [body["stream"] for body in model.requests] == [True, False]


@pytest.mark.parametrize("head", [OK_JSON, OK_STREAM])
async def test_the_answer_counts_and_not_its_content_type(
    client_for: ClientFor, head: bytes
) -> None:
    answer = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    for body in (json.dumps(answer, indent=1).encode(), _WHOLE + b"data: [DONE]\n\n"):
        async with raw_server(head, body) as server:
            client = client_for(server.url, attempts=1)
            assert (await _read(client))[1].text == "hi"
            assert (await client.chat(HELLO)).text == "hi"


@pytest.mark.parametrize(
    ("pieces", "expected", "words"),
    [
        ([OK_STREAM], Unreachable, "middle of a reply"),
        ([OK_STREAM, b"<html>hello</html>"], BadAnswer, "not a stream of words"),
        ([OK_STREAM, b"data: <html>\n\n"], BadAnswer, "not JSON"),
        ([OK_STREAM, b"data: [1]\n\n"], BadAnswer, "not a JSON object"),
        ([OK_STREAM, b"data: " + b"x" * 2_000_000], BadAnswer, "more than 1048576 bytes"),
        ([OK_JSON, b"{}"], BadAnswer, "no choices"),
        ([OK_JSON, b'{"error":"model not loaded"}'], ServerFailed, "model not loaded"),
        ([OK_STREAM, b'{"error":"model not loaded"}'], ServerFailed, "model not loaded"),
        ([OK_STREAM, b'\n{\n "error": {\n "message": "too hot"}}'], ServerFailed, "too hot"),
        ([OK_JSON, b'data: {"error":"too hot"}\n\n'], ServerFailed, "too hot"),
        ([OK_JSON, b'error: {"message":"too hot"}\n\n'], ServerFailed, "too hot"),
        ([OK_STREAM, b"data: [DONE]\n\n"], BadAnswer, "without a reply"),
        ([OK_STREAM, b"data:\n\ndata: [DONE]\n\n"], BadAnswer, "without a reply"),
        ([OK_STREAM, b'data: {"choices":[]}\n\ndata: [DONE]\n\n'], BadAnswer, "without a reply"),
    ],
)
async def test_what_is_no_stream(
    client_for: ClientFor, pieces: list[bytes], expected: type[InferenceError], words: str
) -> None:
    async with raw_server(*pieces) as server:
        with pytest.raises(expected, match=words):
            await _read(client_for(server.url, attempts=1))


async def test_garbage_after_the_first_word(client_for: ClientFor) -> None:
    async with raw_server(OK_STREAM, _event(_chunk("hi")), b"data: {cut\n\n") as server:
        said, error = await _broken(client_for(server.url))
    assert isinstance(error, BadAnswer)
    assert error.text_so_far == said == "hi"


async def test_a_server_that_refuses_stream_options_is_asked_without(
    model: FakeModel, client_for: ClientFor
) -> None:
    refusal = {"error": {"message": "extra field", "param": "stream_options"}}
    model.faults.status(422, body=json.dumps(refusal))
    client = client_for(model.url, attempts=1)
    assert (await _read(client))[1].text == "I heard: hello there"
    await _read(client)
    assert ["stream_options" in body for body in model.requests] == [True, False, False]


async def test_two_streams_side_by_side(model: FakeModel, client_for: ClientFor) -> None:
    model.delay = 0.01
    client = client_for(model.url)
    both = await asyncio.gather(_read(client), _read(client))
    assert [final.text for _, final in both] == ["I heard: hello there"] * 2


_TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=5)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    texts=_TEXTS,
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    cuts=st.lists(st.integers(0, 5000), max_size=12),
    chunked=st.booleans(),
    done=st.booleans(),
)
def test_any_cut_on_the_wire_gives_the_same_words(
    texts: list[str], end: str, cuts: list[int], chunked: bool, done: bool
) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": len(texts)}
    body = b"".join(_event(_chunk(text), end) for text in texts)
    body += _event(_chunk(None, "stop"), end)
    body += _event(json.dumps({"choices": [], "usage": usage}), end)
    body += _event("[DONE]", end) if done else b""
    marks = sorted({0, len(body), *(c % (len(body) + 1) for c in cuts)})
    pieces = [body[a:b] for a, b in itertools.pairwise(marks)]
    head = OK_STREAM
    if chunked:
        head = head.replace(b"Connection: close", b"Transfer-Encoding: chunked")
        pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]

    async def exchange() -> tuple[list[str], Reply]:
        async with (
            raw_server(head, *pieces) as server,
            InferenceClient(settings_for(server.url, attempts=1)) as client,
        ):
            return await _read(client)

    words, final = asyncio.run(exchange())
    assert words == texts
    assert final == Reply("".join(texts), "stop", Usage(5, len(texts)), None, "mine")
