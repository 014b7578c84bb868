"""OpenAI's chat-completions wire: reading requests, writing answers.

Validated by hand, because a schema library would cost more at a cold start than the rest of the
request. Every refusal names the field. Unknown fields are ignored, as newer clients send them;
known ones that would change the answer and are not supported are refused.

Source: the OpenAI API reference, "Create chat completion"; `timings` is ours and additive.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lambda_inference.errors import BadRequest, RequestError
from lambda_inference.gguf.chat_template import Role
from lambda_inference.gguf.drafts import MOST_DRAFTS
from lambda_inference.talk.events import Finished, Timings, Usage
from lambda_inference.talk.prompt import Message
from lambda_inference.talk.sampling import SamplingSettings

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
_MAX_STOPS = 16
_MAX_STOP_LENGTH = 256  # characters
_MAX_NAME_LENGTH = 64  # characters, OpenAI's limit
_UNSUPPORTED = (
    "tools", "tool_choice", "functions", "function_call", "audio", "prediction",
    "web_search_options",
)  # fmt: skip


@dataclass(frozen=True)
class RequestDefaults:
    """What a request gets for what it does not say."""

    max_tokens: int
    max_tokens_limit: int
    sampling: SamplingSettings


@dataclass(frozen=True)
class ChatRequest:
    """A chat-completions request, checked."""

    messages: tuple[Message, ...]
    sampling: SamplingSettings
    max_tokens: int
    stops: tuple[str, ...] = ()
    choices: int = 1
    """Replies wanted, the best first."""
    drafts: int = 0
    """Replies to make, of which those are the best; 0 where the request does not say."""
    stream: bool = False
    include_usage: bool = False
    model: str = field(default="")


def parse_chat_request(body: bytes, defaults: RequestDefaults) -> ChatRequest:
    """Read a request's body.

    Raises:
        BadRequest: names the first field that is wrong.
    """
    data = _read_object(body)
    for name in _UNSUPPORTED:
        if data.get(name) not in (None, [], "none", "auto"):
            raise _bad(name, f"{name!r} is not supported: this model only talks.")
    choices = _integer(data, "n", 1, 1, MOST_DRAFTS)
    drafts = _integer(data, "best_of", 0, 1, MOST_DRAFTS)
    if drafts and drafts < choices:
        raise _bad("best_of", "'best_of' must not be less than 'n'.")
    if _boolean(data, "logprobs"):
        raise _bad("logprobs", "'logprobs' is not supported.")
    _check_format(data)
    stream = _boolean(data, "stream")
    options = data.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise _bad("stream_options", "'stream_options' must be an object.")
    if options is not None and not stream:
        raise _bad("stream_options", "'stream_options' is only allowed with 'stream': true.")
    return ChatRequest(
        messages=_messages(data),
        sampling=_sampling(data, defaults.sampling),
        max_tokens=_max_tokens(data, defaults),
        stops=_stops(data),
        choices=choices,
        drafts=drafts,
        stream=stream,
        include_usage=_boolean(options or {}, "include_usage", "stream_options.include_usage"),
        model=_string(data, "model"),
    )


def completion(
    request_id: str,
    created: int,
    model: str,
    fingerprint: str,
    texts: Sequence[str],
    end: Finished,
) -> bytes:
    """The whole answer of a request without `stream`. `texts`: of its choices."""
    return _dump(
        {
            "id": request_id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "system_fingerprint": fingerprint,
            "choices": [
                {
                    "index": choice,
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": reason,
                }
                for choice, (text, reason) in enumerate(zip(texts, end.reasons, strict=True))
            ],
            "usage": usage_object(end.usage),
            "timings": timings_object(end.timings),
        }
    )


class ChunkWriter:
    """The server-sent events of one streamed answer."""

    def __init__(self, request_id: str, created: int, model: str, fingerprint: str) -> None:
        self._head = {
            "id": request_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "system_fingerprint": fingerprint,
        }

    def role(self, choice: int = 0) -> bytes:
        """The first chunk of a choice: who speaks."""
        return self._chunk({"role": "assistant", "content": ""}, None, choice)

    def text(self, text: str, choice: int = 0) -> bytes:
        """Some words."""
        return self._chunk({"content": text}, None, choice)

    def end(self, end: Finished, *, include_usage: bool) -> bytes:
        """The last chunks: why each choice ended, the usage if asked for, and the end mark."""
        timings = timings_object(end.timings)
        out = b"".join(
            self._chunk({}, reason, choice, timings=timings)
            for choice, reason in enumerate(end.reasons)
        )
        if include_usage:
            out += _event({**self._head, "choices": [], "usage": usage_object(end.usage)})
        return out + DONE

    def _chunk(self, delta: dict[str, str], reason: str | None, choice: int, **more: Any) -> bytes:
        one = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event({**self._head, "choices": [one], **more})


DONE = b"data: [DONE]\n\n"


def usage_object(usage: Usage) -> dict[str, Any]:
    """`usage` as OpenAI writes it."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def timings_object(timings: Timings) -> dict[str, float]:
    """Our own `timings`, milliseconds."""
    return {
        "queue_ms": round(timings.queue_ms, 3),
        "load_ms": round(timings.load_ms, 3),
        "prefill_ms": round(timings.prefill_ms, 3),
        "decode_ms": round(timings.decode_ms, 3),
    }


def error_body(error: RequestError, request_id: str) -> bytes:
    """OpenAI's error envelope, with the request's id."""
    return _dump({"error": _error_object(error, request_id)})


def error_event(error: RequestError, request_id: str) -> bytes:
    """The same inside a stream that has begun; clients of OpenAI raise it."""
    return _event({"error": _error_object(error, request_id)}) + DONE


def models_body(models: list[tuple[str, int]]) -> bytes:
    """`GET /v1/models`: names and creation times."""
    return _dump({"object": "list", "data": [_model_object(*model) for model in models]})


def model_body(name: str, created: int) -> bytes:
    """`GET /v1/models/{name}`."""
    return _dump(_model_object(name, created))


def json_body(document: Mapping[str, Any]) -> bytes:
    """A small JSON document of our own."""
    return _dump(dict(document))


def _model_object(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "friend"}


def _error_object(error: RequestError, request_id: str) -> dict[str, Any]:
    return {
        "message": error.message,
        "type": error.kind,
        "param": error.param,
        "code": error.code,
        "request_id": request_id,
    }


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + _dump(document) + b"\n\n"


def _bad(param: str | None, message: str) -> BadRequest:
    return BadRequest(message, param=param, code="invalid_value")


def _read_object(body: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        data = json.loads(body.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BadRequest(
            f"The body is not JSON in UTF-8 ({error}).", code="invalid_json"
        ) from error
    if not isinstance(data, dict):
        raise BadRequest("The body must be a JSON object.", code="invalid_json")
    return data


def _messages(data: Mapping[str, Any]) -> tuple[Message, ...]:
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _bad("messages", "'messages' must be a list with at least one message.")
    out = tuple(_message(entry, f"messages[{place}]") for place, entry in enumerate(messages))
    if not any(message.text.strip() for message in out if message.role != "system"):
        raise _bad("messages", "'messages' must hold some text to answer.")
    return out


def _message(entry: Any, where: str) -> Message:
    if not isinstance(entry, dict):
        raise _bad(where, f"'{where}' must be an object.")
    role = entry.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise _bad(f"{where}.role", f"'{where}.role' must be one of {', '.join(_ROLES)}.")
    name = entry.get("name")
    if name is not None and (not isinstance(name, str) or len(name) > _MAX_NAME_LENGTH):
        raise _bad(
            f"{where}.name",
            f"'{where}.name' must be text of at most {_MAX_NAME_LENGTH} characters.",
        )
    return Message(
        _ROLES[role], _content(entry, role, f"{where}.content"), _clean(name or "") or None
    )


def _content(entry: Mapping[str, Any], role: str, where: str) -> str:
    content = entry.get("content")
    if isinstance(content, str):
        return _clean(content)
    if content is None and role == "assistant":
        return ""
    if not isinstance(content, list):
        raise _bad(where, f"'{where}' must be text or a list of text parts.")
    parts = []
    for place, part in enumerate(content):
        if not isinstance(part, dict):
            raise _bad(f"{where}[{place}]", f"'{where}[{place}]' must be an object.")
        if part.get("type") != "text":
            raise _bad(f"{where}[{place}].type", "Only parts of type 'text' are supported.")
        if not isinstance(part.get("text"), str):
            raise _bad(f"{where}[{place}].text", f"'{where}[{place}].text' must be text.")
        parts.append(_clean(part["text"]))
    return "\n".join(parts)


def _clean(text: str) -> str:
    """Join escaped surrogate pairs; what stays alone cannot be UTF-8 and becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "")


def _sampling(data: Mapping[str, Any], defaults: SamplingSettings) -> SamplingSettings:
    top_k = _integer(data, "top_k", defaults.top_k, -1, 2**31)
    return SamplingSettings(
        temperature=_number(data, "temperature", defaults.temperature, 0, 2),
        top_p=_number(data, "top_p", defaults.top_p, 0, 1),
        top_k=max(0, top_k),
        min_p=_number(data, "min_p", defaults.min_p, 0, 1),
        presence_penalty=_number(data, "presence_penalty", defaults.presence_penalty, -2, 2),
        frequency_penalty=_number(data, "frequency_penalty", defaults.frequency_penalty, -2, 2),
        repetition_penalty=_number(
            data, "repetition_penalty", defaults.repetition_penalty, 0.01, 10
        ),
        logit_bias=_logit_bias(data),
        seed=_seed(data),
    )


def _seed(data: Mapping[str, Any]) -> int | None:
    if data.get("seed") is None:
        return None
    seed = _integer(data, "seed", 0, -(2**63), 2**63 - 1)
    return seed % 2**64


def _logit_bias(data: Mapping[str, Any]) -> dict[int, float]:
    bias = data.get("logit_bias")
    if bias is None:
        return {}
    if not isinstance(bias, dict):
        raise _bad("logit_bias", "'logit_bias' must be an object of token ids and numbers.")
    out: dict[int, float] = {}
    for token in bias:
        if not (token.isascii() and token.isdigit() and len(token) < 10):
            raise _bad("logit_bias", f"'logit_bias' has the key {token[:40]!r}, no token id.")
        out[int(token)] = _number(bias, token, 0.0, -100, 100, f"logit_bias.{token}")
    return out


def _max_tokens(data: Mapping[str, Any], defaults: RequestDefaults) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        if data.get(name) is not None:
            return min(_integer(data, name, 1, 1, 2**53), defaults.max_tokens_limit)
    return min(defaults.max_tokens, defaults.max_tokens_limit)


def _stops(data: Mapping[str, Any]) -> tuple[str, ...]:
    stop = data.get("stop")
    if stop is None:
        return ()
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or len(stops) > _MAX_STOPS:
        raise _bad("stop", f"'stop' must be text or a list of at most {_MAX_STOPS} texts.")
    for place, text in enumerate(stops):
        if not isinstance(text, str) or not 0 < len(text) <= _MAX_STOP_LENGTH:
            where = "stop" if isinstance(stop, str) else f"stop[{place}]"
            raise _bad(where, f"'{where}' must be text of 1 to {_MAX_STOP_LENGTH} characters.")
    return tuple(stops)


def _check_format(data: Mapping[str, Any]) -> None:
    wanted = data.get("response_format")
    if wanted is not None and (not isinstance(wanted, dict) or wanted.get("type") != "text"):
        raise _bad("response_format", '\'response_format\' can only be {"type": "text"}.')
    modalities = data.get("modalities")
    if modalities is not None and modalities != ["text"]:
        raise _bad("modalities", "'modalities' can only be [\"text\"].")


def _boolean(data: Mapping[str, Any], key: str, where: str = "") -> bool:
    value = data.get(key)
    if value is not None and not isinstance(value, bool):
        raise _bad(where or key, f"'{where or key}' must be true or false.")
    return bool(value)


def _string(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise _bad(key, f"'{key}' must be text.")
    return value or ""


def _integer(data: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    value = data.get(key)
    if value is None:
        return default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _bad(key, f"'{key}' must be a whole number from {low} to {high}.")
    return value


def _number(
    data: Mapping[str, Any], key: str, default: float, low: float, high: float, where: str = ""
) -> float:
    value = data.get(key)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise _bad(where or key, f"'{where or key}' must be a number from {low:g} to {high:g}.")
    return float(value)
