"""The OpenAI chat-completions format: request bodies out, replies and errors in.

Pure: no sockets here. Format: https://platform.openai.com/docs/api-reference/chat. `timings` is
an addition of our own server; llama.cpp's server has a `timings` of its own, read as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .dialect import PLAIN, Dialect
from .messages import ChatMessage, SamplingOptions, Timings, Usage
from .server_errors import ServerError, encodable, error_in, read_error
from .sse import EventTooLong, SSEDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "Chunk",
    "Malformed",
    "ServerError",
    "is_document",
    "read_chunk",
    "read_completion",
    "read_error",
    "read_models",
    "request_body",
]

_MAX_EVENT_BYTES = 1024 * 1024


class Malformed(ValueError):
    """An answer that is not in the format. The text says what is missing."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of an answer, or a whole one."""

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    error: ServerError | None = None
    has_choice: bool = False


def request_body(
    model: str,
    messages: Sequence[ChatMessage],
    options: SamplingOptions,
    *,
    stream: bool,
    dialect: Dialect = PLAIN,
) -> bytes:
    """The request as UTF-8 JSON.

    Lone surrogates, which a chat platform can hand us but UTF-8 has no bytes for, become U+FFFD.
    Raises ValueError for options that JSON cannot carry (NaN, objects of Python's).
    """
    body: dict[str, Any] = dict(options.extra)
    body["model"] = model
    body["messages"] = [
        {"role": m.role, "content": encodable(m.content)}
        | ({"name": encodable(m.name)} if m.name else {})
        for m in dialect.spoken(messages)
    ]
    chosen: dict[str, Any] = {
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "stop": list(options.stop) or None,
        "seed": options.seed,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
    }
    if stream:
        chosen["stream_options"] = {"include_usage": True}
    body |= {name: value for name, value in chosen.items() if value is not None}
    body["stream"] = stream
    body = dialect.written(body)
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ValueError(f"The sampling options cannot be sent as JSON: {error}") from None


def read_completion(body: bytes) -> Chunk:
    """The answer to a request without `stream`, though it be sent as one. Raises Malformed."""
    if not is_document(body) and (chunks := list(_chunks_of(body))):
        return _joined(chunks)
    answer = _object(body)
    if (error := error_in(answer)) is not None:
        return Chunk(error=error)
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Malformed("it has no choices")
    return _chunk(answer, choices, "message")


def read_chunk(data: str) -> Chunk:
    """One event of a stream. Raises Malformed."""
    answer = _object(data)
    if (error := error_in(answer)) is not None:
        return Chunk(error=error)
    choices = answer.get("choices")
    if choices is not None and not isinstance(choices, list):
        raise Malformed("its choices are not a list")
    return _chunk(answer, choices or [], "delta")


def is_document(beginning: bytes) -> bool:
    """Whether an answer that begins so is one JSON document, whatever its content type says."""
    return beginning.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def read_models(body: bytes) -> list[str]:
    """The names in an answer to `GET /v1/models`. Raises Malformed."""
    entries = _object(body).get("data")
    if not isinstance(entries, list):
        raise Malformed("it has no list of models")
    return [e["id"] for e in entries if isinstance(e, dict) and isinstance(e.get("id"), str)]


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
        has_choice=bool(choices),
    )


def _chunks_of(body: bytes) -> Iterator[Chunk]:
    """The chunks of a stream that is here as a whole, up to [DONE]."""
    decoder = SSEDecoder(_MAX_EVENT_BYTES)
    try:
        for data in (*decoder.feed(body), *decoder.close()):
            if data.strip() == "[DONE]":
                return
            if data.strip():
                yield read_chunk(data)
    except EventTooLong as error:
        raise Malformed(f"{error}") from None


def _joined(chunks: Sequence[Chunk]) -> Chunk:
    if failed := next((chunk for chunk in chunks if chunk.error is not None), None):
        return failed
    if not any(chunk.has_choice for chunk in chunks):
        raise Malformed("it has no choices")

    def last(part: str) -> Any:
        return next(
            (said for c in reversed(chunks) if (said := getattr(c, part)) is not None), None
        )

    return Chunk(
        text="".join(chunk.text for chunk in chunks),
        finish_reason=last("finish_reason"),
        usage=last("usage"),
        timings=last("timings"),
        has_choice=True,
    )


def _content(content: object) -> str:
    """Text, or the text parts of a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return encodable(content)
    if isinstance(content, list):
        parts = [p.get("text") for p in content if isinstance(p, dict)]
        return encodable("".join(p for p in parts if isinstance(p, str)))
    raise Malformed("its content is not text")


def _object(body: bytes | str) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("it is not JSON") from None
    if not isinstance(answer, dict):
        raise Malformed("it is not a JSON object")
    return answer


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
