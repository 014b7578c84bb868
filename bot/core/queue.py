"""One lane a conversation: order within it, side by side across them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import structlog

from bot.core.conversation import ConversationKey, PendingReply

_log = structlog.get_logger(__name__)


class Work:
    """One reply to make: the promises it answers (a burst of one person), oldest first.

    Attributes:
        recovering: an earlier process may have begun it.
        committed: something of the reply is visible, or its words are in the store; from then on
            it is neither restarted for a further message of the burst nor made anew.
        keep_draft: the process is going away, and the next one goes on with what is visible.
    """

    def __init__(self, replies: Iterable[PendingReply], *, recovering: bool = False) -> None:
        self.replies = list(replies)
        self.recovering = recovering
        self.committed = False
        self.keep_draft = False

    @property
    def newest(self) -> PendingReply:
        """The promise that carries the reply."""
        return self.replies[-1]


class _Lane:
    def __init__(self) -> None:
        self.waiting: deque[Work] = deque()
        self.arrived = asyncio.Event()
        self.work: Work | None = None
        self.answering: asyncio.Task[None] | None = None
        self.runner: asyncio.Task[None] | None = None


class ConversationQueues:
    """Runs `answer` for each piece of work, one at a time within a conversation.

    A person's further messages within `burst` of each other are answered together: they join the
    work that waits, and they restart the work under way as long as it is not committed. So a
    burst costs the first message no waiting time.
    """

    def __init__(self, answer: Callable[[Work], Awaitable[None]], *, burst: timedelta) -> None:
        self._answer = answer
        self._burst = burst
        self._lanes: dict[ConversationKey, _Lane] = {}
        self._closed = False

    def put(self, reply: PendingReply, *, recovering: bool = False) -> None:
        """Queue a promise. After `drain` has begun this does nothing: the store remembers it."""
        if self._closed:
            return
        lane = self._lanes.setdefault(reply.conversation, _Lane())
        last = lane.waiting[-1] if lane.waiting else None
        if last is not None and not recovering and self._joins(last, reply):
            last.replies.append(reply)
        else:
            lane.waiting.append(Work([reply], recovering=recovering))
        lane.arrived.set()
        if lane.runner is None:
            lane.runner = asyncio.create_task(self._run(reply.conversation, lane))

    def depth(self, conversation: ConversationKey) -> int:
        """Messages of the conversation that wait for a reply or are being answered."""
        lane = self._lanes.get(conversation)
        if lane is None:
            return 0
        under_way = len(lane.work.replies) if lane.work else 0
        return under_way + sum(len(work.replies) for work in lane.waiting)

    @property
    def total_depth(self) -> int:
        """The same over all conversations."""
        return sum(self.depth(conversation) for conversation in self._lanes)

    @property
    def busy(self) -> list[ConversationKey]:
        """Conversations in which something waits or is under way."""
        return list(self._lanes)

    async def cancel(self, conversation: ConversationKey) -> None:
        """Stop what is under way in the conversation and forget what waits."""
        lane = self._lanes.get(conversation)
        if lane is None:
            return
        lane.waiting.clear()
        if lane.answering is not None:
            lane.answering.cancel()
            await asyncio.wait([lane.answering])

    async def drain(self, seconds: float) -> None:
        """Take nothing more; finish what is under way and queued, or leave it after `seconds`."""
        self._closed = True
        runners = [lane.runner for lane in self._lanes.values() if lane.runner is not None]
        if not runners:
            return
        _, late = await asyncio.wait(runners, timeout=seconds)
        for lane in list(self._lanes.values()):
            lane.waiting.clear()
            if lane.work is not None:
                lane.work.keep_draft = True
            if lane.answering is not None:
                lane.answering.cancel()
        if late:
            await asyncio.wait(late)

    async def idle(self) -> None:
        """Return once nothing is under way or waiting."""
        while self._lanes:
            await asyncio.wait([lane.runner for lane in self._lanes.values() if lane.runner])

    def _joins(self, work: Work, reply: PendingReply) -> bool:
        newest = work.newest
        return (
            not work.committed
            and not work.recovering
            and newest.author.id == reply.author.id
            and reply.created_at - newest.created_at <= self._burst
        )

    async def _run(self, conversation: ConversationKey, lane: _Lane) -> None:
        try:
            while lane.waiting:
                lane.work = lane.waiting.popleft()
                await self._finish(lane, lane.work)
                lane.work = None
        finally:
            if self._lanes.get(conversation) is lane:
                del self._lanes[conversation]

    async def _finish(self, lane: _Lane, work: Work) -> None:
        """Answer `work`, starting again with the whole burst as long as that is unseen."""
        while True:
            lane.answering = asyncio.ensure_future(self._guarded(work))
            if not await self._outrun(lane, work, lane.answering):
                return

    async def _outrun(self, lane: _Lane, work: Work, answering: asyncio.Task[None]) -> bool:
        """Wait for the answer; True if a further message of the burst stopped it."""
        while not answering.done():
            lane.arrived.clear()
            arrival = asyncio.ensure_future(lane.arrived.wait())
            try:
                await asyncio.wait({answering, arrival}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                arrival.cancel()
            following = lane.waiting[0] if lane.waiting else None
            if (
                not answering.done()
                and following is not None
                and not following.recovering
                and self._joins(work, following.replies[0])
            ):
                answering.cancel()
                await asyncio.wait([answering])
                if work.committed:
                    return False
                work.replies.extend(lane.waiting.popleft().replies)
                return True
        return False

    async def _guarded(self, work: Work) -> None:
        try:
            await self._answer(work)
        except asyncio.CancelledError:
            pass
        except Exception:  # noqa: BLE001 (one reply that crashes must not stop its lane)
            _log.exception("reply.crashed", reply=work.newest.key)
