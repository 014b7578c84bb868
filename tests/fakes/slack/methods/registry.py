"""How a Web API method is declared: its scope, its required arguments, its work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.slack.server import FakeSlack

JSON = dict[str, Any]


class SlackError(Exception):
    """An answer with `ok: false`; the message is Slack's error code."""

    def __init__(self, code: str, **extra: Any) -> None:
        super().__init__(code)
        self.code = code
        self.extra = extra


@dataclass(frozen=True)
class Method:
    name: str
    run: Callable[[FakeSlack, JSON], JSON]
    scopes: tuple[str, ...]
    """Any one of these is enough; none means that a valid token is."""
    required: tuple[str, ...]
    app_token: bool


METHODS: dict[str, Method] = {}


def method(
    name: str,
    *,
    scopes: tuple[str, ...] = (),
    required: tuple[str, ...] = (),
    app_token: bool = False,
) -> Callable[[Callable[[FakeSlack, JSON], JSON]], Callable[[FakeSlack, JSON], JSON]]:
    """Register a function `(fake, arguments) -> answer` as the Web API method `name`."""

    def register(run: Callable[[FakeSlack, JSON], JSON]) -> Callable[[FakeSlack, JSON], JSON]:
        METHODS[name] = Method(name, run, scopes, required, app_token)
        return run

    return register
