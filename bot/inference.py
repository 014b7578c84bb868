"""From the settings to a client of the model."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from bot.errors import SettingsInvalid
from bot.settings import ModelSettings
from inference_client import Auth, BearerAuth, ClientSettings, NoAuth, SigV4Auth

_ASLEEP_SECONDS = 300.0
_FUNCTION_URL = re.compile(r"\.lambda-url\.([a-z0-9-]+)\.on\.aws$")


def client_settings(settings: ModelSettings, url: str) -> ClientSettings:
    """How to reach the model at `url`.

    Raises:
        SettingsInvalid: the address, key or region cannot be right.
    """
    try:
        return ClientSettings(
            base_url=url,
            model=settings.name,
            auth=_auth(settings, url),
            connect_timeout=settings.connect_seconds,
            first_token_timeout=settings.first_word_seconds,
            between_tokens_timeout=settings.next_word_seconds,
            total_timeout=settings.total_seconds,
            attempts=settings.attempts,
        )
    except ValueError as error:
        raise SettingsInvalid(f"FRIEND_MODEL_*: {error}") from None


def asleep_after(settings: ModelSettings, client: ClientSettings) -> float:
    """Seconds without use after which the model may sleep; 0 if it never does.

    By default a model elsewhere is taken for a function: `friend deploy` pings its own every four
    minutes. To another kind of server the ping is one small request in as long.
    """
    if settings.wake_after_seconds is not None:
        return settings.wake_after_seconds
    return 0.0 if client.loopback else _ASLEEP_SECONDS


def _auth(settings: ModelSettings, url: str) -> Auth:
    found = _FUNCTION_URL.search(urlsplit(url).hostname or "")
    key = settings.api_key.get_secret_value()
    kind = settings.auth
    if kind == "auto":
        kind = "bearer" if key else "sigv4" if found else "none"
    if kind == "none":
        return NoAuth()
    if kind == "bearer":
        if not key:
            raise SettingsInvalid("FRIEND_MODEL_AUTH is bearer, but FRIEND_MODEL_API_KEY is empty.")
        return BearerAuth(key)
    region = settings.region or (found.group(1) if found else "")
    if not region:
        raise SettingsInvalid("FRIEND_MODEL_AUTH is sigv4: set FRIEND_MODEL_REGION as well.")
    return SigV4Auth(region)
