from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_client import ChatMessage, SamplingOptions, Timings, Usage
from inference_client.dialect import Dialect
from inference_client.wire import (
    Malformed,
    ServerError,
    read_chunk,
    read_completion,
    read_error,
    read_models,
    request_body,
)

_ANY_TEXT = st.text(st.characters(), max_size=50)  # lone surrogates included
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "message",
                    "content",
                    "error",
                    "usage",
                    "timings",
                    "data",
                    "id",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def _sent(options: SamplingOptions | None = None, **more: bool) -> dict[str, object]:
    messages = [ChatMessage("system", "be kind"), ChatMessage("user", "hi", name="Ann")]
    arguments = {"stream": False} | more
    body = request_body("m", messages, options or SamplingOptions(), **arguments)
    parsed: dict[str, object] = json.loads(body)
    return parsed


def test_a_bare_request_says_no_more_than_it_must() -> None:
    assert _sent() == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "hi", "name": "Ann"},
        ],
        "stream": False,
    }


def test_options_are_sent_under_their_names() -> None:
    options = SamplingOptions(
        max_tokens=9,
        temperature=0.0,
        top_p=0.5,
        stop=("\n\n", "User:"),
        seed=0,
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        extra={"top_k": 40, "model": "not this one"},
    )
    sent = _sent(options)
    del sent["messages"]
    assert sent == {
        "model": "m",
        "stream": False,
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "stop": ["\n\n", "User:"],
        "seed": 0,
        "presence_penalty": 0.1,
        "frequency_penalty": -0.1,
        "top_k": 40,
    }


def test_a_stream_asks_for_usage_unless_told_not_to() -> None:
    assert _sent(stream=True)["stream_options"] == {"include_usage": True}
    strict = Dialect(without=frozenset({"stream_options"}))
    assert "stream_options" not in _sent(stream=True, dialect=strict)


@given(_ANY_TEXT, _ANY_TEXT)
def test_any_text_becomes_utf8(content: str, name: str) -> None:
    body = request_body("m", [ChatMessage("user", content, name)], SamplingOptions(), stream=False)
    sent = json.loads(body.decode("utf-8"))["messages"][0]["content"]
    sent.encode("utf-8")
    if content.isascii():
        assert sent == content


def test_surrogates_are_joined_or_replaced() -> None:
    turns = [ChatMessage("user", "\ud83d\ude42 \ud83d!")]
    body = request_body("m", turns, SamplingOptions(), stream=False)
    assert json.loads(body)["messages"][0]["content"] == "🙂 \ufffd!"


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, 2}])
def test_options_that_are_not_json_are_a_plain_error(value: object) -> None:
    with pytest.raises(ValueError, match="cannot be sent as JSON"):
        _sent(SamplingOptions(extra={"x": value}))


def test_a_completion_of_our_own_server() -> None:
    chunk = read_completion(
        json.dumps(
            {
                "choices": [{"message": {"content": "hey"}, "finish_reason": "stop"}],
                "usage": {
                    "prompt_tokens": 7,
                    "completion_tokens": 1,
                    "prompt_tokens_details": {"cached_tokens": 5},
                },
                "timings": {"queue_ms": 1, "load_ms": 2.5, "prefill_ms": 3, "decode_ms": 4},
            }
        ).encode()
    )
    assert (chunk.text, chunk.finish_reason) == ("hey", "stop")
    assert chunk.usage == Usage(7, 1, 5)
    assert chunk.timings == Timings(1.0, 2.5, 3.0, 4.0)


def test_the_timings_of_llama_cpp() -> None:
    chunk = read_chunk('{"choices":[],"timings":{"prompt_ms":12.5,"predicted_ms":80,"x":[]}}')
    assert chunk.timings == Timings(prefill_ms=12.5, decode_ms=80.0)


def test_content_may_be_missing_null_or_in_parts() -> None:
    def text(content: object) -> str:
        message = {"message": {"content": content}}
        return read_completion(json.dumps({"choices": [message]}).encode()).text

    assert text(None) == ""
    assert text([{"type": "text", "text": "a"}, {"type": "image"}, {"text": "b"}]) == "ab"
    assert text("\ud83d") == "\ufffd"
    assert read_completion(b'{"choices":[{}]}').text == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[1]",
        b"\xff",
        b"{",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":{}}',
        b'{"choices":["x"]}',
        b'{"choices":[{"message":[]}]}',
        b'{"choices":[{"message":{"content":5}}]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_completion_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_completion(body)


@given(_JSON)
def test_any_json_is_read_or_malformed(document: object) -> None:
    text = json.dumps(document)
    for read in (
        lambda: read_completion(text.encode()),
        lambda: read_chunk(text),
        lambda: read_models(text.encode()),
    ):
        with contextlib.suppress(Malformed):
            read()
    read_error(text.encode())


@given(st.binary(max_size=60))
def test_any_bytes_of_an_error_answer_are_read(body: bytes) -> None:
    read_error(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"error":{"message":"no","type":"t","param":"seed","code":"c"}}',
            ServerError("no", "t", "c", "seed"),
        ),
        (b'{"error":{"message":null,"code":503}}', ServerError("", None, "503", None)),
        (b'{"error":"model not found"}', ServerError("model not found")),
        (b'{"Message":"Forbidden"}', ServerError("Forbidden")),
        (b'{"message":"Too\\nmany\\u0007  requests"}', ServerError("Too many requests")),
        (b'{"detail":"nope"}', ServerError("nope")),
        (b'{"detail":[1]}', ServerError()),
        (b'{"object":"error","message":"m","code":400}', ServerError("m", None, "400")),
        (
            b'{"error":"queue is full","error_type":"overloaded"}',
            ServerError("queue is full", "overloaded"),
        ),
        (b'data: {"error":{"message":"no"}}\n\n', ServerError("no")),
        (b'error: {"code":500,"message":"no"}', ServerError("no", None, "500")),
        (b"no healthy upstream\n", ServerError("no healthy upstream")),
        (b"<html>", ServerError()),
        (b"", ServerError()),
    ],
)
def test_error_bodies_of_many_servers(body: bytes, expected: ServerError) -> None:
    assert read_error(body) == expected


def test_an_endless_error_text_is_cut() -> None:
    assert len(read_error(json.dumps({"error": "x" * 10_000}).encode()).message) == 300


def test_names_of_models() -> None:
    assert read_models(b'{"data":[{"id":"a"},{"id":5},"x",{"id":"b"}]}') == ["a", "b"]
    with pytest.raises(Malformed):
        read_models(b'{"models":[]}')
