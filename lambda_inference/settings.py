"""Every limit and default of the model server, each with its unit.

Plain dataclasses read from the environment: a cold start pays for every import. Each field's
metadata holds `description` and `unit`, which the settings table in the docs is made from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from lambda_inference.errors import SettingsError
from lambda_inference.gguf.drafts import MOST_DRAFTS

T = TypeVar("T", bound="_FromEnvironment")


def _setting(
    default: Any,
    description: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    return field(
        default=default,
        repr=not secret,
        metadata={
            "description": description,
            "unit": unit,
            "low": low,
            "high": high,
            "choices": choices,
            "secret": secret,
        },
    )


class _FromEnvironment:
    prefix: ClassVar[str]

    @classmethod
    def from_environment(cls: type[T], environment: Mapping[str, str] | None = None) -> T:
        """Read `prefix` + the field's name in capitals; an empty value is the default.

        Raises:
            SettingsError: a value has the wrong type or is out of range; names the variable.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for one in fields(cls):  # type: ignore[arg-type]
            variable = cls.variable(one)
            text = environment.get(variable, "").strip()
            if text:
                values[one.name] = _parse(variable, text, one)
        return cls(**values)

    @classmethod
    def variable(cls, one: Field[Any]) -> str:
        """The environment variable of a field."""
        return cls.prefix + one.name.upper()


@dataclass(frozen=True)
class ModelSettings(_FromEnvironment):
    """Which model, and what runs it."""

    prefix: ClassVar[str] = "FRIEND_MODEL_"

    file: str = _setting("", "Model file (.gguf) or folder; empty means the model in the package.")
    state: str = _setting(
        "",
        "Learnt initial state (from state tuning) that conversations start from, or a folder of "
        "them: each is then a model of its own, as in `friend:pirate`.",
    )
    name: str = _setting("", "The model's name on the wire; empty means its file's name.")
    engine: str = _setting(
        "auto",
        "What computes: native (C++), reference (the rwkv package on torch), auto by file type.",
        choices=("auto", "native", "reference"),
    )
    threads: int = _setting(
        0, "Threads of the engine; 0 means the CPUs given.", unit="threads", low=0, high=256
    )


@dataclass(frozen=True)
class ServerSettings(_FromEnvironment):
    """How requests are taken and answered."""

    prefix: ClassVar[str] = "FRIEND_SERVER_"

    host: str = _setting("127.0.0.1", "Address to listen on; other than loopback needs a key.")
    port: int = _setting(8080, "Port to listen on; 0 takes a free one.", low=0, high=65535)
    key: str = _setting(
        "", "Bearer key that clients must send; empty only on loopback.", secret=True
    )
    parallel: int = _setting(
        8,
        "States that are decoded together: replies made at the same time, or drafts of one. Each "
        "takes twice its state's size in memory (RWKV-7 0.4B: 13 MB, RWKV-4 430M: 1 MB), twice "
        "that where a reply has several drafts; what finds no place waits.",
        unit="states",
        low=1,
        high=64,
    )
    drafts: int = _setting(
        0,
        "Drafts made of each reply, of which the best is given; 0 means what the model's file "
        "recommends, or 1. A request's 'best_of' goes first.",
        unit="drafts",
        low=0,
        high=MOST_DRAFTS,
    )
    queue: int = _setting(
        64, "Requests that may wait; one more is told 429.", unit="requests", low=0, high=10_000
    )
    max_body_bytes: int = _setting(
        1 << 20, "Largest request body; a larger one is told 413.", unit="bytes", low=1024
    )
    max_prompt_tokens: int = _setting(
        8192, "Longest prompt; a longer one is told 413.", unit="tokens", low=16
    )
    max_tokens: int = _setting(
        160, "Longest reply when the request names no limit.", unit="tokens", low=1
    )
    max_tokens_limit: int = _setting(
        1024,
        "Longest reply that a request may ask for; more is lowered to it.",
        unit="tokens",
        low=1,
    )
    reply_seconds: float = _setting(
        120.0, "Time for one request, queue included; then the reply ends.", unit="seconds", low=1
    )
    state_cache_mb: int = _setting(
        256, "Memory for conversation states; 0 keeps none.", unit="MB", low=0
    )
    state_bucket: str = _setting(
        "",
        "S3 bucket in which servers share conversation states; empty shares none. Region, "
        "credentials and endpoint come from the usual AWS variables.",
    )
    state_prefix: str = _setting("states/", "Put before the names of the states in the bucket.")
    drain_seconds: int = _setting(
        20, "After SIGTERM, time for replies under way.", unit="seconds", low=0, high=3600
    )
    temperature: float = _setting(
        0.8, "Temperature when the request names none.", low=0.0, high=2.0
    )
    top_p: float = _setting(0.9, "top_p when the request names none.", low=0.0, high=1.0)
    presence_penalty: float = _setting(
        0.0, "presence_penalty when the request names none.", low=-2.0, high=2.0
    )
    frequency_penalty: float = _setting(
        0.2, "frequency_penalty when the request names none.", low=-2.0, high=2.0
    )


def model_path(settings: ModelSettings) -> Path:
    """The model that the settings name, or the shipped one.

    Raises:
        ModelNotFound: no path is set and the package holds no model.
    """
    if settings.file:
        return Path(settings.file).expanduser()
    from lambda_inference.model import shipped_model

    return shipped_model()


def _parse(variable: str, text: str, one: Field[Any]) -> Any:
    kind: type[Any] = type(one.default)
    try:
        value = kind(text)
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        raise SettingsError(f"{variable} is {text!r}, but must be {wanted}.") from error
    choices = one.metadata["choices"]
    if choices and value not in choices:
        raise SettingsError(f"{variable} is {text!r}, but must be one of {', '.join(choices)}.")
    low, high = one.metadata["low"], one.metadata["high"]
    if low is not None and not value >= low:
        raise SettingsError(f"{variable} is {text}, but must be at least {low}.")
    if high is not None and not value <= high:
        raise SettingsError(f"{variable} is {text}, but must be at most {high}.")
    return value
