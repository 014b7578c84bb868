"""One lane a conversation: order within it, side by side across them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta

import structlog

from bot.core.conversation import ConversationKey, PendingReply, ReplyState
from bot.errors import StoreFailed

_log = structlog.get_logger(__name__)


class Work:
    """One reply to make: the promises it answers (a burst of one person), oldest first.

    Attributes:
        recovering: an earlier attempt, perhaps of an earlier process, may have begun it.
        is_late: nobody waits for an answer any more; it is to be said that there will be none.
        committed: something of the reply is visible, or its words are in the store; from then on
            it is neither restarted for a further message of the burst nor made anew.
        keep_draft: the process is going away, and the next one goes on with what is visible.
        left_draft: a draft that nobody wants could not be taken back.
        still_owed: keys of what the store has to be done in the conversation after this; None if
            that is not known.
    """

    def __init__(
        self, replies: Iterable[PendingReply], *, recovering: bool = False, is_late: bool = False
    ) -> None:
        self.replies = list(replies)
        self.recovering = recovering
        self.is_late = is_late
        self.committed = any(reply.state is not ReplyState.QUEUED for reply in self.replies)
        self.keep_draft = False
        self.left_draft = False
        self.still_owed: frozenset[str] | None = None

    @property
    def newest(self) -> PendingReply:
        """The promise that carries the reply."""
        return self.replies[-1]

    @property
    def is_notice(self) -> bool:
        """Whether this is a sentence of friend's own, which goes before the replies that wait."""
        return self.newest.is_notice


class _Lane:
    def __init__(self, *, is_sure: bool) -> None:
        self.waiting: deque[Work] = deque()
        self.arrived = asyncio.Event()
        self.work: Work | None = None
        self.answering: asyncio.Task[None] | None = None
        self.runner: asyncio.Task[None] | None = None
        self.is_sure = is_sure
        """Whether `waiting` has all that the store has, in its order."""
        self.tried: set[str] = set()

    @property
    def waiting_keys(self) -> frozenset[str]:
        return frozenset(reply.key for work in self.waiting for reply in work.replies)

    def knows(self, key: str) -> bool:
        under_way = self.work.replies if self.work else []
        return key in self.waiting_keys or any(reply.key == key for reply in under_way)

    def add(self, work: Work) -> None:
        """Queue: notices first, in their order."""
        if not work.is_notice:
            self.waiting.append(work)
            return
        notices = sum(waiting.is_notice for waiting in self.waiting)
        self.waiting.insert(notices, work)


class ConversationQueues:
    """Runs `answer` for each piece of work, one at a time within a conversation.

    What waits is in the order in which the store promised it. Where another process may have
    promised something in the meantime, the store is asked before the next piece of work.

    A person's further messages within `burst` of each other are answered together: they join the
    work that waits, and they restart the work under way as long as it is not committed. So a
    burst costs the first message no waiting time.
    """

    def __init__(
        self,
        answer: Callable[[Work], Awaitable[None]],
        *,
        burst: timedelta,
        owed: Callable[[ConversationKey], Awaitable[Sequence[PendingReply] | None]],
    ) -> None:
        """`owed` is `bot.core.ports.Store.owed`."""
        self._answer = answer
        self._burst = burst
        self._owed = owed
        self._lanes: dict[ConversationKey, _Lane] = {}
        self._closed = False

    def put(self, reply: PendingReply, *, recovering: bool = False, is_late: bool = False) -> None:
        """Queue a promise; one that is queued already changes nothing.

        After `drain` has begun this does nothing: the store remembers it.
        """
        if self._closed:
            return
        lane = self._lanes.get(reply.conversation)
        if lane is None:
            lane = self._lanes[reply.conversation] = _Lane(is_sure=reply.is_alone or recovering)
        elif lane.knows(reply.key):
            return
        last = lane.waiting[-1] if lane.waiting else None
        joins = is_late and last is not None and last.is_late
        if last is not None and (joins or (not recovering and self._joins(last, reply))):
            last.replies.append(reply)
        else:
            lane.add(Work([reply], recovering=recovering, is_late=is_late))
        lane.arrived.set()
        if lane.runner is None:
            lane.runner = asyncio.create_task(self._run(reply.conversation, lane))

    def knows(self, reply: PendingReply) -> bool:
        """Whether a promise waits here, or is being kept."""
        lane = self._lanes.get(reply.conversation)
        return lane is not None and lane.knows(reply.key)

    def depth(self, conversation: ConversationKey) -> int:
        """Messages of the conversation that wait for a reply or are being answered."""
        lane = self._lanes.get(conversation)
        if lane is None:
            return 0
        works = [*lane.waiting, *([lane.work] if lane.work else [])]
        return sum(len(work.replies) for work in works if not (work.replies and work.is_notice))

    @property
    def total_depth(self) -> int:
        """The same over all conversations."""
        return sum(self.depth(conversation) for conversation in self._lanes)

    @property
    def busy(self) -> list[ConversationKey]:
        """Conversations in which something waits or is under way."""
        return list(self._lanes)

    async def cancel(self, conversation: ConversationKey) -> bool:
        """Stop what is under way in the conversation and forget what waits.

        Returns whether nothing of it is left to be seen.
        """
        lane = self._lanes.get(conversation)
        if lane is None:
            return True
        lane.waiting.clear()
        work = lane.work
        if work is not None:
            work.still_owed = frozenset()
        if lane.answering is not None:
            lane.answering.cancel()
            await asyncio.wait([lane.answering])
        return work is None or not work.left_draft

    def lose(self, conversation: ConversationKey) -> None:
        """Stop in the conversation, as another process goes on with what is visible there."""
        lane = self._lanes.get(conversation)
        if lane is None:
            return
        lane.waiting.clear()
        if lane.work is not None:
            lane.work.keep_draft = True
        if lane.answering is not None:
            lane.answering.cancel()

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
            and reply.state is ReplyState.QUEUED
            and newest.author.id == reply.author.id
            and reply.created_at - newest.created_at <= self._burst
        )

    async def _run(self, conversation: ConversationKey, lane: _Lane) -> None:
        try:
            while True:
                if not lane.is_sure and not self._closed:
                    await self._look(conversation, lane)
                if not lane.waiting:
                    return
                lane.work = work = lane.waiting.popleft()
                lane.tried.update(reply.key for reply in work.replies)
                await self._finish(lane, work)
                lane.work = None
                lane.is_sure = work.still_owed is not None and (
                    work.still_owed <= lane.waiting_keys
                )
        finally:
            if self._lanes.get(conversation) is lane:
                del self._lanes[conversation]

    async def _look(self, conversation: ConversationKey, lane: _Lane) -> None:
        """Have waiting what the store has to be done, in its order; nothing if it is another's.

        What was tried here and is still to be done is left to whoever looks after it later.
        """
        lane.is_sure = True
        before = lane.waiting_keys
        try:
            owed = await self._owed(conversation)
        except StoreFailed as error:
            _log.warning("store.failed", error=str(error))
            return
        if owed is None:
            _log.info("conversation.of_another_process", conversation=str(conversation))
            lane.waiting.clear()
            return
        works = {reply.key: work for work in lane.waiting for reply in work.replies}
        found = {reply.key for reply in owed}
        is_first = not lane.tried
        ordered: list[Work] = []
        for reply in owed:
            work = works.get(reply.key)
            if work is None and reply.key not in lane.tried:
                begun = is_first or reply.state is not ReplyState.QUEUED
                work = Work([reply], recovering=begun)
            if work is not None and work not in ordered:
                ordered.append(work)
        for work in lane.waiting:
            is_gone = all(r.key in before and r.key not in found for r in work.replies)
            if not is_gone and work not in ordered:
                ordered.append(work)
        lane.waiting.clear()
        for work in ordered:
            lane.add(work)

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
