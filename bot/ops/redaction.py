"""Keeping secrets out of logs: by their values where they are known, else by their shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from pydantic import SecretStr

from bot.settings import Settings

MASK = "[secret]"
_SHORTEST = 6
"""A shorter value is not looked for: it would black out ordinary words."""

_SHAPES = (
    # Discord: base64 of the bot's id, of a time, and an HMAC, with dots between.
    re.compile(r"(?<![\w-])[A-Za-z0-9_-]{23,30}\.[A-Za-z0-9_-]{6,7}\.[A-Za-z0-9_-]{27,}"),
    # Slack: bot, user, app-level and refresh tokens; incoming webhooks.
    re.compile(r"\b(?:xox[a-z]|xapp|xoxe\.xox[bp])-[A-Za-z0-9-]{8,}"),
    re.compile(r"(?<=hooks\.slack\.com/)(?:services|workflows)/[\w/]+"),
    # AWS: access key ids, and what a signed request carries.
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"(?i)(?<=signature=)[0-9a-f]{64}"),
    re.compile(r"(?i)(?<=x-amz-security-token=)[^\s&\"']+"),
    # Keys of model servers, and whatever stands in an Authorization header.
    re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(?i)(?<=authorization: bot )\S+"),
    # The password in an address, and one-time tickets of Slack's socket.
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
    re.compile(r"(?<=[?&]ticket=)[^\s&\"']+"),
)

EventDict = MutableMapping[str, Any]


class Redactor:
    """A structlog processor that masks secrets in every text of an event, however deep."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({s for s in secrets if len(s) >= _SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, logger: object, method: str, event: EventDict) -> EventDict:
        """Mask the event's values; its keys are ours."""
        for key, value in event.items():
            event[key] = self._clean(value)
        return event

    def text(self, text: str) -> str:
        """Mask secrets in a text."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for shape in _SHAPES:
            text = shape.sub(MASK, text)
        return text

    def _clean(self, value: object) -> object:
        match value:
            case str():
                return self.text(value)
            case bytes():
                return self.text(value.decode("utf-8", "replace"))
            case None | bool() | int() | float():
                return value
            case Mapping():
                return {key: self._clean(item) for key, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._clean(item) for item in value]
            case _:
                return self.text(str(value))


def secrets_of(settings: Settings) -> list[str]:
    """Every secret value in the settings."""
    found = []
    for name in type(settings).__dataclass_fields__:
        section = getattr(settings, name)
        for field in type(section).model_fields:
            value = getattr(section, field)
            if isinstance(value, SecretStr) and value.get_secret_value():
                found.append(value.get_secret_value())
    return found
