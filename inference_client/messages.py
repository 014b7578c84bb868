"""What goes to a model and what comes back, as plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ChatMessage", "Health", "Reply", "Role", "SamplingOptions", "Timings", "Usage"]

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn. `name` says who spoke, where several people share a conversation."""

    role: Role
    content: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How to sample. None leaves a choice to the server, and is not sent.

    max_tokens: tokens in the reply. stop: texts that end it. extra: further fields of the
    request body as they are (`top_k`, `min_p`, ...); a field of ours wins over one in `extra`.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. 0 where the server did not say. `cached_tokens` is a part of `prompt_tokens`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the server's time went, in milliseconds; 0 where it did not say."""

    queue_ms: float = 0.0
    load_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply.

    finish_reason: "stop", "length", ... as the server said it, or None if it did not.
    request_id: the id under which server and client both logged this.
    """

    text: str
    finish_reason: str | None
    usage: Usage
    timings: Timings | None
    request_id: str


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a reply could be had now, in a form that a person can read.

    detail: one sentence: what works, or what is wrong and what to do.
    models: the names the server offers, where it lists them.
    latency_ms: time of the health request, 0 if it got no answer.
    """

    ok: bool
    detail: str
    models: tuple[str, ...] = ()
    latency_ms: float = 0.0
