"""The OpenAI chat-completions format: request bodies out, replies and errors in.

Pure: no sockets here. Format: https://platform.openai.com/docs/api-reference/chat. `timings` is
an addition of our own server; llama.cpp's server has a `timings` of its own, read as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .messages import ChatMessage, SamplingOptions, Timings, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Chunk",
    "Malformed",
    "ServerError",
    "read_chunk",
    "read_completion",
    "read_error",
    "read_models",
    "request_body",
]

_MAX_ERROR_TEXT = 300


class Malformed(ValueError):
    """An answer that is not in the format. The text says what is missing."""


@dataclass(frozen=True, slots=True)
class ServerError:
    """An error as a server told it; every part may be missing."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of an answer, or a whole one."""

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    error: ServerError | None = None


def request_body(
    model: str,
    messages: Sequence[ChatMessage],
    options: SamplingOptions,
    *,
    stream: bool,
    stream_usage: bool = True,
) -> bytes:
    """The request as UTF-8 JSON.

    Lone surrogates, which a chat platform can hand us but UTF-8 has no bytes for, become U+FFFD.
    Raises ValueError for options that JSON cannot carry (NaN, objects of Python's).
    """
    body: dict[str, Any] = dict(options.extra)
    body["model"] = model
    body["messages"] = [
        {"role": m.role, "content": _encodable(m.content)}
        | ({"name": _encodable(m.name)} if m.name else {})
        for m in messages
    ]
    chosen = {
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "stop": list(options.stop) or None,
        "seed": options.seed,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
    }
    body |= {name: value for name, value in chosen.items() if value is not None}
    body["stream"] = stream
    if stream and stream_usage:
        body["stream_options"] = {"include_usage": True}
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ValueError(f"The sampling options cannot be sent as JSON: {error}") from None


def read_completion(body: bytes) -> Chunk:
    """The answer to a request without `stream`. Raises Malformed."""
    answer = _object(body)
    if (error := answer.get("error")) is not None:
        return Chunk(error=_error(error))
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Malformed("it has no choices")
    return _chunk(answer, choices, "message")


def read_chunk(data: str) -> Chunk:
    """One event of a stream. Raises Malformed."""
    answer = _object(data)
    if (error := answer.get("error")) is not None:
        return Chunk(error=_error(error))
    choices = answer.get("choices")
    if choices is not None and not isinstance(choices, list):
        raise Malformed("its choices are not a list")
    return _chunk(answer, choices or [], "delta")


def read_models(body: bytes) -> list[str]:
    """The names in an answer to `GET /v1/models`. Raises Malformed."""
    entries = _object(body).get("data")
    if not isinstance(entries, list):
        raise Malformed("it has no list of models")
    return [e["id"] for e in entries if isinstance(e, dict) and isinstance(e.get("id"), str)]


def read_error(body: bytes) -> ServerError:
    """What the body of an error answer says: OpenAI's envelope, or one of the other habits.

    Ollama sends `{"error": "text"}`, API Gateway `{"message": ...}`, Function URLs
    `{"Message": ...}`, FastAPI `{"detail": ...}`. Anything else gives an empty ServerError.
    """
    try:
        answer = _object(body)
    except Malformed:
        return ServerError()
    if answer.get("error") is not None:
        return _error(answer["error"])
    for name in ("message", "Message", "detail"):
        if isinstance(text := answer.get(name), str):
            return ServerError(message=_one_line(text))
    return ServerError()


def _chunk(answer: Mapping[str, Any], choices: list[Any], part: str) -> Chunk:
    text, finish_reason = "", None
    if choices:
        choice = choices[0]
        if not isinstance(choice, dict):
            raise Malformed("its first choice is not an object")
        said = choice.get(part)
        if said is not None and not isinstance(said, dict):
            raise Malformed(f"its {part} is not an object")
        text = _content((said or {}).get("content"))
        reason = choice.get("finish_reason")
        finish_reason = reason if isinstance(reason, str) and reason else None
    return Chunk(
        text=text,
        finish_reason=finish_reason,
        usage=_usage(answer.get("usage")),
        timings=_timings(answer.get("timings")),
    )


def _content(content: object) -> str:
    """Text, or the text parts of a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return _encodable(content)
    if isinstance(content, list):
        parts = [p.get("text") for p in content if isinstance(p, dict)]
        return _encodable("".join(p for p in parts if isinstance(p, str)))
    raise Malformed("its content is not text")


def _object(body: bytes | str) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("it is not JSON") from None
    if not isinstance(answer, dict):
        raise Malformed("it is not a JSON object")
    return answer


def _error(error: object) -> ServerError:
    if isinstance(error, str):
        return ServerError(message=_one_line(error))
    if not isinstance(error, dict):
        return ServerError()
    code = error.get("code")
    return ServerError(
        message=_one_line(_text(error.get("message")) or ""),
        type=_text(error.get("type")),
        code=str(code) if isinstance(code, int) else _text(code),
        field=_text(error.get("param")),
    )


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else 0,
    )


def _timings(timings: object) -> Timings | None:
    if not isinstance(timings, dict):
        return None
    return Timings(
        queue_ms=_milliseconds(timings.get("queue_ms")),
        load_ms=_milliseconds(timings.get("load_ms")),
        prefill_ms=_milliseconds(timings.get("prefill_ms", timings.get("prompt_ms"))),
        decode_ms=_milliseconds(timings.get("decode_ms", timings.get("predicted_ms"))),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _milliseconds(value: object) -> float:
    """A finite number that is not negative, or 0."""
    if isinstance(value, int | float) and 0 <= value < 1e15:
        return float(value)
    return 0.0


def _text(value: object) -> str | None:
    return value[:_MAX_ERROR_TEXT] if isinstance(value, str) and value else None


def _one_line(text: str) -> str:
    """Fit for a log line: no control characters, not endless."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())
    return clean if len(clean) <= _MAX_ERROR_TEXT else clean[: _MAX_ERROR_TEXT - 1] + "…"


def _encodable(text: str) -> str:
    """Pairs of surrogates joined, lone ones replaced, so that UTF-8 can carry it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
