"""Sees promised replies through: made, posted and closed, whatever happens on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from bot.core.attempt import Attempt
from bot.core.conversation import PendingReply, ReplyState
from bot.core.ports import Observer, Outlet, Outlets, Store
from bot.core.queue import Work
from bot.core.room import Room
from bot.core.waking import Waker
from bot.core.window import fit
from bot.errors import StoreFailed
from bot.settings import ReplySettings
from inference_client import ChatMessage, InferenceClient, SamplingOptions

_log = structlog.get_logger(__name__)

CRASHES = 3
"""A reply that fails so often for no known reason is given up."""
CRASH_PAUSES = (1.0, 5.0)
HISTORY_PAUSES = (0.2, 1.0, 2.0, 5.0)
"""Seconds before each further try while the history is down; the last repeats."""
HISTORY_SECONDS = 60.0
"""A person waits so long for a history that is down, then hears of it."""


@dataclass(frozen=True, slots=True)
class Responder:
    """Makes one reply at a time for a lane of the queue, and keeps the store's promise of it.

    Attributes:
        answer_within: how long after its message a reply is still worth making.
        room: what was learnt of the model's context.
    """

    store: Store
    model: InferenceClient
    waker: Waker
    platforms: Mapping[str, Outlets]
    settings: ReplySettings
    observer: Observer
    answer_within: timedelta
    room: Room = field(default_factory=Room)

    async def answer(self, work: Work) -> None:
        """Make and post the reply; on return it is done, failed or cancelled in the store.

        If not, it is another process's, or the store could not be told: whoever looks after the
        conversation next sees to it. Cancelling withdraws a visible draft, unless the work says to
        keep it; then the promise still stands, for whoever cancelled to close, or for the next
        process.
        """
        crashes = 0
        history_down_since: float | None = None
        history_pauses = iter(HISTORY_PAUSES)
        pause = 0.0
        work.still_owed = None
        while work.replies:
            attempt = Attempt(self, work)
            try:
                if await attempt.run():
                    return
                # The newest message was deleted meanwhile; the rest of its burst still waits.
                work.replies.pop()
                work.committed = False
                continue
            except StoreFailed as error:
                _log.error("store.failed", reply=work.newest.key, error=str(error))
                history_down_since = history_down_since or time.monotonic()
                if time.monotonic() - history_down_since > HISTORY_SECONDS:
                    await attempt.say_history_is_down()
                    return
                pause = next(history_pauses, pause)
            except Exception:  # noqa: BLE001 - a defect must not leave anybody without a word
                _log.exception("reply.crashed", reply=work.newest.key)
                crashes += 1
                if crashes == CRASHES:
                    await attempt.say_it_broke()
                    return
                pause = CRASH_PAUSES[crashes - 1]
            await asyncio.sleep(pause)
            if not await self._is_still_ours(work):
                return

    async def _is_still_ours(self, work: Work) -> bool:
        """Bring the work up to date with the store; False if there is nothing left to do of it."""
        work.recovering = True
        try:
            owed = await self.store.owed(work.newest.conversation)
        except StoreFailed:
            return True  # the next attempt will find out
        keys = {reply.key for reply in work.replies}
        work.replies = [reply for reply in owed or [] if reply.key in keys]
        work.committed = any(reply.state is not ReplyState.QUEUED for reply in work.replies)
        return bool(work.replies)

    def outlet(self, reply: PendingReply, *, recovering: bool) -> Outlet:
        """The way back to the message of a promise."""
        platform = self.platforms[reply.conversation.platform]
        return platform.outlet(reply.address, reply.key, recovering=recovering)

    def options(self) -> SamplingOptions:
        """How the model is to sample."""
        return SamplingOptions(
            max_tokens=self.settings.max_tokens,
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
            seed=self.settings.seed,
        )

    async def prompt(self, reply: PendingReply, most: int | None) -> list[ChatMessage] | None:
        """The conversation up to the message to answer, trimmed, as the model reads it.

        None if that message is no longer in the window.

        Args:
            reply: whose message is the last.
            most: the `size` that the model is known to read, if it is.
        """
        assert reply.turn_id is not None
        turns = await self.store.window(reply.conversation)
        turns = [turn for turn in turns if turn.place <= (reply.turn_id, 0)]
        if not turns or turns[-1].id != reply.turn_id:
            return None
        first, messages = fit(
            turns,
            persona=self.settings.persona,
            window_characters=self.settings.window_characters,
            message_characters=self.settings.message_characters,
            most=most,
        )
        if first:
            await self.store.move_window(reply.conversation, turns[first].id)
        return messages
