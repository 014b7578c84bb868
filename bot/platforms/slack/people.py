"""People's names, asked of Slack once an hour at most."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog
from cachetools import TTLCache
from slack_sdk.web.async_client import AsyncWebClient

from bot.platforms.slack.failures import CALL_ERRORS

_log = structlog.get_logger(__name__)

KEPT_SECONDS = 3600.0
UNKNOWN_SECONDS = 60.0
"""How long nobody waits again for a name that did not come in time."""

ANSWER_SECONDS = 1.0
"""Longest wait for names: the message they belong to has to be acknowledged within three."""


class Names:
    """Display names by user id; whoever cannot be asked for in time has none."""

    def __init__(self, client: AsyncWebClient) -> None:
        self._client = client
        self._known: TTLCache[str, str] = TTLCache(maxsize=20_000, ttl=KEPT_SECONDS)
        self._late: TTLCache[str, bool] = TTLCache(maxsize=20_000, ttl=UNKNOWN_SECONDS)
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def of(self, user_ids: Iterable[str]) -> dict[str, str]:
        """Names of those users that are known, or could be learnt at once."""
        wanted = set(user_ids)
        unknown = {u for u in wanted if u not in self._known and u not in self._late}
        for user_id in unknown - self._asking.keys():
            self._asking[user_id] = asyncio.create_task(self._ask(user_id))
        if unknown:
            waiting = [self._asking[user_id] for user_id in unknown]
            await asyncio.wait(waiting, timeout=ANSWER_SECONDS)
        self._late.update({u: True for u in unknown if u not in self._known})
        return {u: self._known[u] for u in wanted if u in self._known}

    async def _ask(self, user_id: str) -> None:
        try:
            answer = await self._client.users_info(user=user_id)
        except CALL_ERRORS as error:
            _log.info("slack.name_unknown", user=user_id, error=repr(error))
            return
        finally:
            del self._asking[user_id]
        user = answer.get("user") or {}
        profile = user.get("profile") or {}
        names = (profile.get("display_name"), profile.get("real_name"), user.get("name"))
        name = next((name for name in names if name), None)
        if name is not None:
            self._known[user_id] = name
