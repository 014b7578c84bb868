"""Requests are read as OpenAI's reference says, and each refusal names the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_inference.errors import BadRequest, Busy
from lambda_inference.serving.wire import (
    ChatRequest,
    ChunkWriter,
    RequestDefaults,
    completion,
    error_body,
    error_event,
    parse_chat_request,
)
from lambda_inference.talk.events import Finished, Timings, Usage
from lambda_inference.talk.prompt import Message
from lambda_inference.talk.sampling import SamplingSettings

DEFAULTS = RequestDefaults(100, 500, SamplingSettings(temperature=0.8, top_p=0.9))
HI = [{"role": "user", "content": "hi"}]
END = Finished("stop", Usage(10, 3, 7), Timings(1.0, 2.0, 3.0, 4.0))


def parse(**fields: Any) -> ChatRequest:
    return parse_chat_request(json.dumps({"messages": HI, **fields}).encode(), DEFAULTS)


def test_what_is_not_said_takes_the_servers_defaults() -> None:
    request = parse()
    assert request == ChatRequest((Message("user", "hi"),), DEFAULTS.sampling, 100)


def test_every_setting_is_read() -> None:
    request = parse(
        model="friend", temperature=0, top_p=0.5, top_k=40, min_p=0.1, presence_penalty=-2,
        frequency_penalty=2, repetition_penalty=1.1, logit_bias={"5": -100, "7": 1.5}, seed=-1,
        max_tokens=7, stop=["a", "b"], stream=True, stream_options={"include_usage": True}, n=1,
        user="u", response_format={"type": "text"}, tools=[], logprobs=False, new_field=1,
    )  # fmt: skip
    assert request.sampling == SamplingSettings(
        0.0, 0.5, 40, 0.1, -2.0, 2.0, 1.1, {5: -100.0, 7: 1.5}, 2**64 - 1
    )
    assert (request.max_tokens, request.stops, request.model) == (7, ("a", "b"), "friend")
    assert request.stream
    assert request.include_usage


def test_several_replies_are_the_best_of_as_many_drafts_or_more() -> None:
    assert (parse().choices, parse().drafts) == (1, 0)
    request = parse(n=2, best_of=5)
    assert (request.choices, request.drafts) == (2, 5)
    assert parse(n=3, best_of=3).drafts == 3


def test_the_newer_name_of_the_token_limit_wins_and_is_lowered_to_the_servers() -> None:
    assert parse(max_tokens=7, max_completion_tokens=9).max_tokens == 9
    assert parse(max_tokens=10**6).max_tokens == 500
    assert parse(max_tokens=None).max_tokens == 100
    assert parse(top_k=-1).sampling.top_k == 0
    assert parse(stop="x").stops == ("x",)


def test_messages_in_all_their_forms() -> None:
    messages = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
         "name": "Ann"},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "\ud83d\udc4b\ud800\0"},
    ]  # fmt: skip
    assert parse(messages=messages).messages == (
        Message("system", "be kind"),
        Message("user", "a\nb", "Ann"),
        Message("assistant", ""),
        Message("assistant", ""),
        Message("user", "👋\ufffd"),
    )


def user(content: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content, **more}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [*HI, {"role": "user"}]}, "messages[1].content"),
        ({"messages": user(5)}, "messages[0].content"),
        ({"messages": user(["hi"])}, "messages[0].content[0]"),
        ({"messages": user([{"type": "image_url"}])}, "messages[0].content[0].type"),
        ({"messages": user([{"type": "text", "text": 1}])}, "messages[0].content[0].text"),
        ({"messages": user("hi", name=3)}, "messages[0].name"),
        ({"messages": user("hi", name="x" * 65)}, "messages[0].name"),
        ({"messages": user("  \n ")}, "messages"),
        ({"messages": [{"role": "system", "content": "only this"}]}, "messages"),
        ({"n": 99}, "n"),
        ({"best_of": 0}, "best_of"),
        ({"best_of": 33}, "best_of"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": -1}, "min_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": []}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"stop": 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"model": 5}, "model"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"functions": [{}]}, "functions"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["audio"]}, "modalities"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(**fields)
    assert caught.value.param == param
    assert caught.value.message
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"hi"', b"\xff\xfe", b'{"messages": NaN}', b"[" * 100_000,
     b'{"a":' * 100_000, b'{"seed": ' + b"9" * 5000 + b"}", '{"a": "é"}'.encode("latin-1")],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_chat_request(body, DEFAULTS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FIELDS = st.sampled_from(
    ["messages", "stop", "stream", "stream_options", "seed", "logit_bias", "n", "best_of",
     "max_tokens", "temperature", "tools", "response_format", "model", "top_k"]
)  # fmt: skip
MESSAGE = st.fixed_dictionaries(
    {}, optional={"role": st.sampled_from(["user", "system"]) | JSON, "content": JSON, "name": JSON}
)


@given(fields=st.dictionaries(FIELDS, JSON), messages=st.none() | st.lists(MESSAGE, max_size=3))
def test_any_json_is_read_or_refused(
    fields: dict[str, Any], messages: list[dict[str, Any]] | None
) -> None:
    document = fields if messages is None else {**fields, "messages": messages}
    try:
        request = parse_chat_request(json.dumps(document).encode(), DEFAULTS)
    except BadRequest:
        return
    assert request.messages
    assert 1 <= request.max_tokens <= 500


def test_an_answer_is_a_chat_completion() -> None:
    answer = json.loads(completion("chatcmpl-1", 5, "tiny", "fp_1", ["hé 👋"], END))
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {
        "role": "assistant", "content": "hé 👋", "refusal": None,
    }  # fmt: skip
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 7},
    }
    assert answer["timings"] == {
        "queue_ms": 1.0, "load_ms": 2.0, "prefill_ms": 3.0, "decode_ms": 4.0,
    }  # fmt: skip


def test_every_choice_has_its_text_and_its_end() -> None:
    end = Finished("stop", Usage(), Timings(), ("length", "stop"))
    choices = json.loads(completion("i", 5, "tiny", "fp", ["a", "b", "c"], end))["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert [choice["message"]["content"] for choice in choices] == ["a", "b", "c"]
    assert [choice["finish_reason"] for choice in choices] == ["stop", "length", "stop"]
    chunks = ChunkWriter("i", 5, "tiny", "fp")
    data = chunks.role(2) + chunks.text("c", 2) + chunks.end(end, include_usage=False)
    role, text, *ends, done = events(data)
    assert [one["choices"][0]["index"] for one in (role, text, *ends)] == [2, 2, 0, 1, 2]
    assert [one["choices"][0]["finish_reason"] for one in ends] == ["stop", "length", "stop"]
    assert done == "[DONE]"


def events(data: bytes) -> list[Any]:
    assert data.endswith(b"\n\n")
    lines = data.decode().strip().split("\n\n")
    return [
        json.loads(x) if (x := line.removeprefix("data: ")) != "[DONE]" else x for line in lines
    ]


def test_a_stream_is_chunks_and_an_end_mark() -> None:
    chunks = ChunkWriter("chatcmpl-1", 5, "tiny", "fp_1")
    data = chunks.role() + chunks.text("a\nb") + chunks.end(END, include_usage=True)
    role, text, end, usage, done = events(data)
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert text["choices"][0]["delta"] == {"content": "a\nb"}
    assert end["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 13
    assert done == "[DONE]"
    assert len(events(chunks.end(END, include_usage=False))) == 2


def test_errors_stand_in_openais_envelope() -> None:
    error = Busy("busy", retry_after=3)
    body = json.loads(error_body(error, "req_1"))
    assert body == {
        "error": {
            "message": "busy", "type": "rate_limit_error", "param": None, "code": "busy",
            "request_id": "req_1",
        }
    }  # fmt: skip
    assert error.headers == {"retry-after": "3"}
    assert events(error_event(error, "req_1")) == [body, "[DONE]"]
