"""One message and its reply, through the same core as on every platform."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bot.core.conversation import ReplyState
from bot.core.friend import Friend
from bot.core.ports import ReplyTimes, Store
from bot.core.queue import ConversationQueues
from bot.platforms.terminal import texts
from bot.platforms.terminal.outlet import PLATFORM, TerminalPlatform

_NOTICE_SECONDS = 10.0
_MADE_WITHIN = timedelta(hours=1)
"""An older promise is nobody's; a younger one may be another chat's, which is making the reply."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        text: a reply or a notice; if `failed`, the apology; if `stopped`, what was shown.
        failed: there is no reply because something is wrong.
        stopped: the person did not want to hear the rest.
    """

    text: str
    failed: bool = False
    stopped: bool = False


class Outcomes:
    """An `Observer` that remembers what became of the last message."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget; a new message is about to be sent."""
        self._received = ""
        self._replied = ""

    def received(self, platform: str, outcome: str) -> None:
        """See `Observer`."""
        self._received = outcome

    def replied(self, platform: str, outcome: str, times: ReplyTimes) -> None:
        """See `Observer`."""
        self._replied = outcome

    @property
    def failed(self) -> bool:
        """Whether a reply was due and did not come, or the message could not be stored."""
        if self._received == "queued":
            return self._replied != "answered"
        return self._received == "store failed"


class Exchange:
    """Sends lines to friend, one at a time, and waits for what comes back."""

    def __init__(
        self,
        *,
        friend: Friend,
        queues: ConversationQueues,
        store: Store,
        platform: TerminalPlatform,
        outcomes: Outcomes,
    ) -> None:
        self._friend = friend
        self._queues = queues
        self._store = store
        self._platform = platform
        self._outcomes = outcomes
        self._stopped = False

    async def take_up(self) -> None:
        """Settle what earlier chats were killed over; to be awaited before the first message.

        A reply whose words were ready is remembered, as if it had been read. One that was not is
        not made now: nobody waits for it any more, and in a pipe it would belong to no line. Its
        message stands in the history without a reply, and `again` answers it.
        """
        not_before = datetime.now(UTC) - _MADE_WITHIN
        for reply in await self._store.claim(PLATFORM, not_before=not_before):
            if reply.state is ReplyState.POSTING:
                await self._store.finish(reply.key, [f"{reply.key}-0"])
            else:
                await self._store.close_reply(reply.key, ReplyState.FAILED)

    async def ask(self, text: str) -> Answer:
        """Say something to friend and wait until the reply is whole and remembered."""
        self._stopped = False
        self._outcomes.clear()
        await self._friend.on_message(self._platform.message(text))
        await self._friend.settle(_NOTICE_SECONDS)
        await self._queues.idle()
        draft = self._platform.draft
        if self._stopped:
            await self._remember_shown()
            return Answer(draft.shown, stopped=True)
        if not draft.text:
            return Answer(texts.NO_REPLY, failed=True)
        return Answer(draft.text, failed=self._outcomes.failed)

    async def stop(self) -> None:
        """Stop the reply under way; the `ask` that waits for it then returns."""
        self._stopped = True
        await self._queues.cancel(self._platform.conversation)

    async def reset(self) -> str:
        """Put the conversation behind; return what friend says to it."""
        return await self._friend.reset(self._platform.conversation)

    async def forget(self) -> str:
        """Erase what the person said in any session; return what friend says to it."""
        return await self._friend.forget(PLATFORM, self._platform.person.id)

    def about(self) -> str:
        """What friend is."""
        return self._friend.about()

    async def _remember_shown(self) -> None:
        """End the promise of a stopped reply: what the person has read of it is what was said."""
        draft = self._platform.draft
        owed = await self._store.unfinished(PLATFORM, not_before=datetime.min.replace(tzinfo=UTC))
        for reply in owed:
            if reply.conversation != self._platform.conversation:
                continue
            said = draft.shown if reply.key == draft.reply_key else ""
            if said and await self._store.begin_posting([reply.key], [said], is_apology=False):
                await self._store.finish(reply.key, [f"{reply.key}-0"])
            else:
                await self._store.close_reply(reply.key, ReplyState.CANCELLED)
