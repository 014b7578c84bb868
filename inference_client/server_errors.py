"""What servers say when something went wrong: OpenAI's envelope, and the other habits.

Pure. The same shapes come as the body of an error answer, in place of a chunk inside a stream,
and as a success by status.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .sse import SSEDecoder

__all__ = ["ServerError", "encodable", "error_in", "one_line", "read_error"]

_MAX_TEXT = 300
_MAX_EVENT_BYTES = 64 * 1024
_WORDS = ("message", "Message", "detail", "error_message", "error_msg", "msg")


@dataclass(frozen=True, slots=True)
class ServerError:
    """An error as a server told it; every part may be missing."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    field: str | None = None


def read_error(body: bytes) -> ServerError:
    """What the body of an error answer says; an empty ServerError if that is not to be read.

    JSON, the same as an event of a stream, or a line of plain text; never a page of HTML.
    """
    documents: list[bytes | str] = [body, *_events(body)]
    for document in documents:
        try:
            answer = json.loads(document)
        except (ValueError, RecursionError):
            continue
        if isinstance(answer, dict):
            return error_in(answer) or ServerError()
        return ServerError()
    try:
        text = body.decode().strip()
    except UnicodeDecodeError:
        return ServerError()
    return ServerError() if text[:1] in ("", "<", "{", "[") else ServerError(one_line(text))


def error_in(answer: Mapping[str, Any]) -> ServerError | None:
    """The error that an object of a server's is, or holds; None if it is something else.

    OpenAI, llama.cpp and most others have `{"error": {...}}`; Ollama and TGI `{"error": "text"}`;
    vLLM `{"object": "error", "message": ...}`; Anthropic `{"type": "error", "error": {...}}`;
    API Gateway `{"message": ...}`, Function URLs `{"Message": ...}`, FastAPI `{"detail": ...}`,
    a text or a list of what is wrong with which field.
    """
    if (error := answer.get("error")) or isinstance(error, dict):
        return _of(error, answer)
    if answer.get("object") == "error" or answer.get("type") == "error":
        return _of(answer, answer)
    if "choices" in answer:
        return _of_choice(answer["choices"])
    for name in _WORDS:
        if isinstance(text := answer.get(name), str) and text:
            return ServerError(one_line(text), code=_code(answer.get("code")))
    if isinstance(detail := answer.get("detail"), list):
        return _of_fields(detail)
    return None


def one_line(text: str) -> str:
    """Fit for a log line: no control characters, not endless."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())
    return clean if len(clean) <= _MAX_TEXT else clean[: _MAX_TEXT - 1] + "…"


def encodable(text: str) -> str:
    """Pairs of surrogates joined, lone ones replaced, so that UTF-8 can carry it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _of(error: object, around: Mapping[str, Any]) -> ServerError:
    if isinstance(error, str):
        return ServerError(
            one_line(error), type=_text(around.get("error_type")), code=_code(around.get("code"))
        )
    if not isinstance(error, dict):
        return ServerError()
    words = next((text for name in _WORDS if (text := _text(error.get(name)))), "")
    return ServerError(
        message=one_line(words),
        type=_text(error.get("type")),
        code=_code(error.get("code")),
        field=_text(error.get("param")),
    )


def _of_choice(choices: object) -> ServerError | None:
    """A choice that ended in an error says so itself, as OpenRouter does it."""
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict):
        return None
    if error := first.get("error"):
        return _of(error, first)
    return ServerError() if first.get("finish_reason") == "error" else None


def _of_fields(detail: list[Any]) -> ServerError:
    """FastAPI's list of fields that are wrong: the first of them."""
    first = detail[0] if detail and isinstance(detail[0], dict) else {}
    where, what = first.get("loc"), first.get("msg")
    parts = [str(part) for part in where if part != "body"] if isinstance(where, list) else []
    return ServerError(
        message=one_line(what) if isinstance(what, str) else "",
        type=_text(first.get("type")),
        field=_text(".".join(parts)),
    )


def _events(body: bytes) -> Iterator[str]:
    decoder = SSEDecoder(_MAX_EVENT_BYTES)
    try:
        yield from decoder.feed(body)
        yield from decoder.close()
    except ValueError:
        return


def _code(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value)


def _text(value: object) -> str | None:
    return value[:_MAX_TEXT] if isinstance(value, str) and value else None
