"""How to reach a model: address, credentials, patience.

Every duration is in seconds.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = [
    "Auth",
    "AwsCredentials",
    "BearerAuth",
    "ClientSettings",
    "CredentialsProvider",
    "NoAuth",
    "SigV4Auth",
]


@dataclass(frozen=True, slots=True)
class NoAuth:
    """Send no credentials: right for a server on loopback only."""


@dataclass(frozen=True, slots=True)
class BearerAuth:
    """`Authorization: Bearer <key>`."""

    key: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self.key or not self.key.isascii() or not self.key.isprintable() or " " in self.key:
            raise ValueError(
                "The model's API key must be printable ASCII without spaces; "
                "copy it again from where it was made."
            )


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """One set of AWS keys; `session_token` belongs to temporary ones."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


CredentialsProvider = Callable[[], AwsCredentials]
"""Called in a thread before each request, so that it may block and may return fresh keys."""


@dataclass(frozen=True, slots=True)
class SigV4Auth:
    """AWS Signature Version 4, as a Function URL with AuthType AWS_IAM wants it.

    credentials: None means botocore's own chain (environment, shared files, SSO, role).
    Needs botocore, which is imported only when this is used.
    """

    region: str
    service: str = "lambda"
    credentials: CredentialsProvider | None = field(default=None, repr=False)


Auth = NoAuth | BearerAuth | SigV4Auth


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Everything `InferenceClient` needs to know.

    base_url: as OpenAI's SDK takes it, up to and with `/v1`; an address without a path gets
        `/v1` added.
    connect_timeout, first_token_timeout, between_tokens_timeout: limits of one attempt.
    answer_timeout: limit of one attempt that is not streamed, in place of the two of a stream.
    total_timeout: limit of one call, with all its attempts and the pauses between them.
    attempts: how often a call is tried at most, the first time included.
    backoff_initial, backoff_max: the first and the longest pause between attempts, where the
        server names none; pauses double, with jitter.
    breaker_threshold: failures in a row after which nothing is sent.
    breaker_cooldown: for how long; then one request tries.
    max_answer_bytes: an answer larger than this is not read to its end.
    max_connections: open connections at once; further calls wait for one.
    """

    base_url: str
    model: str
    auth: Auth = NoAuth()
    connect_timeout: float = 5.0
    first_token_timeout: float = 30.0
    between_tokens_timeout: float = 15.0
    answer_timeout: float = 60.0
    total_timeout: float = 120.0
    attempts: int = 3
    backoff_initial: float = 0.5
    backoff_max: float = 8.0
    breaker_threshold: int = 5
    breaker_cooldown: float = 20.0
    max_answer_bytes: int = 8 * 1024 * 1024
    max_connections: int = 100

    def __post_init__(self) -> None:
        _check_url(self.base_url)
        if not self.model.strip():
            raise ValueError("The model's name is empty; name one that the server offers.")
        for name in (
            "connect_timeout",
            "first_token_timeout",
            "between_tokens_timeout",
            "answer_timeout",
            "total_timeout",
        ):
            if not (math.isfinite(value := getattr(self, name)) and value > 0):
                raise ValueError(f"{name} must be a number of seconds above 0, not {value!r}.")
        for name in ("backoff_initial", "backoff_max", "breaker_cooldown"):
            if not (math.isfinite(value := getattr(self, name)) and value >= 0):
                raise ValueError(f"{name} must be a number of seconds, 0 or more, not {value!r}.")
        for name in ("attempts", "breaker_threshold", "max_answer_bytes", "max_connections"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}.")

    @property
    def api_url(self) -> str:
        """`base_url` up to and with `/v1`, without a slash at the end."""
        base = self.base_url.strip().rstrip("/")
        return base if urlsplit(base).path else f"{base}/v1"

    @property
    def root_url(self) -> str:
        """Where `/healthz` lives: `api_url` without its `/v1`."""
        return self.api_url.removesuffix("/v1")

    @property
    def loopback(self) -> bool:
        """Whether the model is on this machine, so that a proxy could not reach it."""
        host = urlsplit(self.base_url.strip()).hostname or ""
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def _check_url(url: str) -> None:
    """Refuse an address that could not work, without echoing what may hold a password."""
    if "@" in url:
        raise ValueError("The model's address holds a user or password; use the API key instead.")
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"The model's address is not a URL: {error}.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(
            f"The model's address must look like http://127.0.0.1:8080/v1, not {url!r}."
        )
    if parts.query or parts.fragment:
        raise ValueError("The model's address must end with its path: no '?' and no '#'.")
