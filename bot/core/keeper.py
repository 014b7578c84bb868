"""Keeps this process the owner of its conversations, and takes over what others left behind."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from bot.core.conversation import ReplyState
from bot.core.ports import Store
from bot.core.queue import ConversationQueues
from bot.errors import StoreFailed

_log = structlog.get_logger(__name__)

EVERY_SECONDS = 5.0
"""Between two rounds; a quarter of a lease (`bot.stores.owners.LEASE`)."""

LONGEST = timedelta(days=1)
"""What is older is closed without a word: nobody remembers having asked."""


class Keeper:
    """Looks after promises for as long as it runs.

    A process that dies leaves its promises to the next round of another, once its lease is over.
    What was left in this process, because something broke, is taken up again as well.
    """

    def __init__(
        self,
        store: Store,
        queues: ConversationQueues,
        *,
        answer_within: timedelta,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._store = store
        self._queues = queues
        self._answer_within = answer_within
        self._every_seconds = every_seconds
        self._platforms: list[str] = []

    async def look_after(self, platform: str) -> int:
        """Take up what is owed on a platform, now and in every round; return how many replies.

        Raises:
            StoreFailed: the history is down; later rounds look all the same.
        """
        if platform not in self._platforms:
            self._platforms.append(platform)
        return await self._take_up(platform)

    async def run(self) -> None:
        """Do a round every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(self._every_seconds)
            try:
                await self._round()
            except StoreFailed as error:
                _log.warning("store.failed", error=str(error))
            except Exception:  # noqa: BLE001 - without rounds, promises would be left for good
                _log.exception("keeper.round_failed")

    async def _round(self) -> None:
        if busy := self._queues.busy:
            for conversation in await self._store.renew(busy):
                _log.warning("conversation.lost", conversation=str(conversation))
                self._queues.lose(conversation)
        for platform in self._platforms:
            await self._take_up(platform)

    async def _take_up(self, platform: str) -> int:
        now = datetime.now(UTC)
        owed = await self._store.claim(platform, not_before=now - LONGEST)
        taken = 0
        for reply in owed:
            if self._queues.knows(reply):
                continue
            is_old = now - reply.created_at > self._answer_within
            is_late = is_old and reply.state is ReplyState.QUEUED
            self._queues.put(reply, recovering=True, is_late=is_late)
            taken += 1
        if taken:
            _log.info("replies.recovered", platform=platform, count=taken)
        return taken
