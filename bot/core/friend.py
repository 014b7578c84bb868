"""Friend: what every platform talks to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4
from weakref import WeakValueDictionary

import structlog
from cachetools import LRUCache

from bot import texts
from bot.core.access import Pace, RateLimits, permitted
from bot.core.commands import Command, parse_command
from bot.core.conversation import ConversationKey, IncomingMessage, Role
from bot.core.heard import cleaned, in_words
from bot.core.keeper import Keeper
from bot.core.manners import is_distress
from bot.core.ports import Deed, Observer, Outlets, Store
from bot.core.queue import ConversationQueues
from bot.core.triggers import Reason, decide
from bot.core.waking import Waker
from bot.errors import DeliveryFailed, StoreFailed
from bot.settings import AccessSettings, TriggerSettings

_log = structlog.get_logger(__name__)

_RECENT_CONVERSATIONS = 100


def new_key() -> str:
    """A reply key: 20 characters of [0-9a-f]."""
    return uuid4().hex[:20]


class Friend:
    """Hears messages, decides, remembers, and owes replies; the queues pay them.

    A platform awaits `on_message` before it acknowledges an event: on return the message is
    durably accepted, and its reply comes later. Unless said otherwise, methods raise `StoreFailed`
    when the history is down.

    Attributes:
        answer_within: how long after it was said a message is still worth an answer.
    """

    def __init__(
        self,
        *,
        store: Store,
        queues: ConversationQueues,
        keeper: Keeper,
        waker: Waker,
        platforms: Mapping[str, Outlets],
        triggers: TriggerSettings,
        access: AccessSettings,
        observer: Observer,
        answer_within: timedelta,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._queues = queues
        self._keeper = keeper
        self._waker = waker
        self._platforms = platforms
        self._triggers = triggers
        self._access = access
        self._limits = RateLimits(access)
        self._observer = observer
        self.answer_within = answer_within
        self._chance = chance
        self._locks: WeakValueDictionary[ConversationKey, asyncio.Lock] = WeakValueDictionary()
        self._told_behind: set[ConversationKey] = set()
        self._notices: set[asyncio.Task[None]] = set()
        self._spoke_unrecorded: LRUCache[ConversationKey, bool] = LRUCache(1000)

    async def on_message(self, message: IncomingMessage, *, instead_of: str | None = None) -> None:
        """Take in one message; redelivered ones change nothing. Never raises `StoreFailed`.

        With the history down the person hears so, if they spoke to friend.

        Args:
            instead_of: id of a message in the same place that this one repeats for its author.
                The two are one: answered once, and the repetition stays when the first is deleted.
        """
        if message.from_bot or not self._permits(message):
            self._observer.received(message.conversation.platform, "ignored")
            return
        message = cleaned(message)
        reason = decide(message, self._triggers, chance=self._chance())
        lock = self._locks.setdefault(message.conversation, asyncio.Lock())
        try:
            async with lock:
                if instead_of is not None and await self._replace(message, instead_of):
                    outcome = "duplicate"
                else:
                    outcome = await self._take(message, reason)
        except StoreFailed as error:
            _log.error("store.failed", error=str(error))
            outcome = "store failed"
            if reason is not None and reason.is_address:
                self._say(message, texts.HISTORY_DOWN)
        self._observer.received(message.conversation.platform, outcome)

    def expect(self, conversation: ConversationKey, person_id: str, *, is_direct: bool) -> None:
        """Somebody is about to speak to friend: let the model wake meanwhile.

        Returns at once; does nothing where the settings let friend not answer this person.
        """
        triggers = self._triggers
        answers = triggers.direct_messages if is_direct else triggers.threads
        if answers and permitted(conversation, person_id, self._access, is_direct=is_direct):
            self._waker.wake()

    async def reset_for(
        self,
        conversation: ConversationKey,
        person_id: str,
        *,
        is_direct: bool,
        with_threads: bool = False,
    ) -> str:
        """`reset`, or `reset_channel`, if the lists let this person talk to friend here."""
        if not permitted(conversation, person_id, self._access, is_direct=is_direct):
            return texts.NOT_FOR_YOU
        if with_threads:
            return await self.reset_channel(conversation)
        return await self.reset(conversation)

    async def reset(self, conversation: ConversationKey) -> str:
        """Put the conversation behind; return what to tell the person."""
        turns = await self._store.reset(conversation)
        await self._stop(conversation)
        return texts.reset(turns)

    async def reset_channel(self, channel: ConversationKey) -> str:
        """Put a channel and all of its threads behind; return what to tell the person."""
        turns = await self._store.reset_channel(channel)
        for conversation in self._queues.busy:
            if replace(conversation, thread="") == replace(channel, thread=""):
                await self._stop(conversation)
        return texts.reset(turns)

    async def remember(self, message: IncomingMessage) -> None:
        """Remember a message as what was said before, and owe nothing for it."""
        if not self._permits(message):
            return
        message = await self._in_words(cleaned(message))
        if message.text:
            await self._store.accept(message, reply_key=None)

    async def is_new(self, conversation: ConversationKey) -> bool:
        """Whether nothing is remembered of a conversation yet."""
        return not await self._store.window(conversation)

    async def forget(self, platform: str, person_id: str) -> str:
        """Erase a person's messages everywhere on a platform; return what to tell them."""
        return texts.forgot(await self._store.forget_person(platform, person_id))

    def about(self) -> str:
        """What friend is, for a person who asks."""
        return texts.ABOUT

    async def on_edit(self, message: IncomingMessage, *, calls: bool) -> None:
        """Follow an edit; messages friend never saw are ignored, unless they call it now.

        Args:
            message: as it is now.
            calls: somebody changed the words, so that a mention in them calls friend, unless the
                message was answered before.
        """
        if message.from_bot:
            return
        message = cleaned(message)
        place = message.conversation
        lock = self._locks.setdefault(place, asyncio.Lock())
        async with lock:
            said = (await self._in_words(message)).text
            await self._store.edit(place.platform, place.channel, message.message_id, said)
            if calls and message.mentions_friend and self._permits(message):
                await self._call(message, said)

    async def on_delete(self, platform: str, channel: str, message_id: str) -> None:
        """Follow a deletion; a reply not yet begun is no longer owed."""
        await self._store.delete(platform, channel, message_id)

    async def takes_part(self, conversation: ConversationKey) -> bool:
        """Whether friend has spoken here, or is about to; platforms ask this of threads."""
        return (
            self._queues.depth(conversation) > 0
            or conversation in self._spoke_unrecorded
            or await self._store.is_friend_thread(conversation)
        )

    async def recent_conversations(self, platform: str) -> Sequence[ConversationKey]:
        """Where people talked with friend lately, the last place first."""
        return await self._store.recent(platform, limit=_RECENT_CONVERSATIONS)

    async def recover(self, platform: str) -> int:
        """Queue what an earlier process still owed on a platform; return how many replies.

        To be called when the platform can post. From then on, what other processes leave behind
        there is taken over.
        """
        return await self._keeper.look_after(platform)

    def _permits(self, message: IncomingMessage) -> bool:
        return permitted(
            message.conversation, message.author.id, self._access, is_direct=message.is_direct
        )

    async def settle(self, seconds: float) -> None:
        """Wait for notices on their way, at most so long."""
        if self._notices:
            await asyncio.wait(self._notices, timeout=seconds)

    async def _take(self, message: IncomingMessage, reason: Reason | None) -> str:
        """Handle a message in its conversation's order; return what became of it."""
        addressed = reason not in {None, Reason.INTERJECTION}
        command = parse_command(message.text) if addressed else None
        if command is not None:
            return await self._obey(message, command)
        message = await self._in_words(message)
        if reason is None:
            if not message.text:
                return "ignored"
            accepted = await self._store.accept(message, reply_key=None)
            return "remembered" if accepted else "duplicate"
        if not message.text:
            return await self._take_bare(message)
        return await self._take_words(message)

    async def _in_words(self, message: IncomingMessage) -> IncomingMessage:
        turns = await self._store.window(message.conversation) if message.quote else []
        return in_words(message, turns)

    async def _replace(self, message: IncomingMessage, message_id: str) -> bool:
        """Put a message in the place of another; False if it is still to be taken in."""
        place = message.conversation
        told = await self._in_words(message)
        if told.text and parse_command(message.text) is None:
            return await self._store.replace(message_id, told)
        await self._store.delete(place.platform, place.channel, message_id)
        return False

    async def _call(self, message: IncomingMessage, said: str) -> None:
        """Answer a message that an edit has made one to friend, if it was not answered before."""
        turns = await self._store.window(message.conversation)
        known = next((turn for turn in turns if turn.message_id == message.message_id), None)
        if known is None:
            await self._take(message, Reason.MENTION)
        elif await self._store.was_promised(known.id):
            return
        else:
            again = replace(message, event_id=f"{message.event_id}/edited")
            if said and parse_command(message.text) is None:
                await self._owe(again, known.id)
            else:
                await self._store.drop_turn(known.id)
                await self._take(again, Reason.MENTION)

    async def _take_words(self, message: IncomingMessage) -> str:
        refusal = None if is_distress(message.text) else self._refusal(message)
        if refusal is None:
            self._waker.wake()
        key = None if refusal == "" else new_key()
        accepted = await self._store.accept(message, reply_key=key, words=refusal or "")
        if accepted is None:
            return "duplicate"
        if accepted.reply is not None:
            self._queues.put(accepted.reply)
        return "queued" if refusal is None else "limited"

    def _refusal(self, message: IncomingMessage) -> str | None:
        """None if a reply may be queued, else what to say about it ("" for nothing)."""
        conversation = message.conversation
        if self._queues.depth(conversation) >= self._access.queue_depth:
            told = conversation in self._told_behind
            self._told_behind.add(conversation)
            return "" if told else texts.BEHIND
        self._told_behind.discard(conversation)
        match self._limits.take(conversation, message.author):
            case Pace.FINE:
                return None
            case Pace.TOO_FAST:
                return texts.SLOW_DOWN
            case Pace.STILL_TOO_FAST:
                return ""

    async def _take_bare(self, message: IncomingMessage) -> str:
        """A mention without words answers what was said just before, if friend saw it.

        Not a second time: after a reply that failed, something else may have been said since that
        friend did not see.
        """
        if await self._is_known(message):
            return "duplicate"
        if message.files:
            return await self._carry_out(Deed.NOTHING, message, lambda _: texts.ONLY_TEXT)
        turns = await self._store.window(message.conversation)
        if not turns or turns[-1].role is Role.FRIEND:
            return await self._carry_out(Deed.NOTHING, message, lambda _: texts.LISTENING)
        if self._is_busy(message):
            return await self._leave(message)
        if await self._store.was_promised(turns[-1].id):
            return await self._carry_out(Deed.NOTHING, message, lambda _: texts.LISTENING)
        return await self._owe(message, turns[-1].id)

    async def _obey(self, message: IncomingMessage, command: Command) -> str:
        if await self._is_known(message):
            return "duplicate"
        match command:
            case Command.RESET:
                return await self._carry_out(Deed.RESET, message, texts.reset)
            case Command.FORGET_ME:
                return await self._carry_out(Deed.FORGET, message, texts.forgot)
            case Command.ABOUT:
                return await self._carry_out(Deed.NOTHING, message, lambda _: self.about())
            case Command.AGAIN:
                return await self._answer_again(message)

    async def _answer_again(self, message: IncomingMessage) -> str:
        """Make a new reply to the last thing a person said, in place of the old one.

        The old one stays until the new one is posted.
        """
        if self._is_busy(message):
            return await self._leave(message)
        turns = await self._store.window(message.conversation)
        asked = next((turn for turn in reversed(turns) if turn.role is Role.USER), None)
        if asked is None:
            return await self._carry_out(Deed.NOTHING, message, lambda _: texts.NOTHING_AGAIN)
        return await self._owe(message, asked.id)

    async def _owe(self, message: IncomingMessage, turn_id: int) -> str:
        """Promise a reply to a remembered turn, posted as an answer to `message`."""
        refusal = self._refusal(message)
        if refusal:
            await self._carry_out(Deed.NOTHING, message, lambda _: refusal)
        if refusal is not None:
            return "limited"
        self._waker.wake()
        reply = await self._store.promise(
            message.conversation,
            turn_id,
            reply_key=new_key(),
            address=message.address,
            author=message.author,
            event_id=message.event_id,
        )
        if reply is None:
            return "duplicate"
        self._queues.put(reply)
        return "queued"

    async def _carry_out(
        self, deed: Deed, message: IncomingMessage, words: Callable[[int], str]
    ) -> str:
        """Do what a message asks for, and have it said; both, once, or neither."""
        notice = await self._store.carry_out(deed, message, reply_key=new_key(), words=words)
        if notice is None:
            return "duplicate"
        if deed is Deed.RESET:
            await self._stop(message.conversation)
        self._queues.put(notice)
        return "command"

    async def _stop(self, conversation: ConversationKey) -> None:
        """After a reset: stop what is under way, and close it in the store."""
        if await self._queues.cancel(conversation):
            await self._store.close_withdrawn(conversation)

    def _is_busy(self, message: IncomingMessage) -> bool:
        return self._queues.depth(message.conversation) > 0

    async def _leave(self, message: IncomingMessage) -> str:
        """Do nothing for a message: the reply it asks for is under way."""
        await self._store.first_sight(message.conversation.platform, message.event_id)
        return "duplicate"

    async def _is_known(self, message: IncomingMessage) -> bool:
        return await self._store.is_known(message.conversation.platform, message.event_id)

    def _say(self, message: IncomingMessage, text: str) -> None:
        """Say something of friend's own while the history is down, so that nothing can be promised.

        In the background: whoever delivered the message waits for its acceptance only.
        """
        self._spoke_unrecorded[message.conversation] = True
        task = asyncio.create_task(self._post_notice(message, text))
        self._notices.add(task)
        task.add_done_callback(self._notices.discard)

    async def _post_notice(self, message: IncomingMessage, text: str) -> None:
        platform = self._platforms[message.conversation.platform]
        try:
            await platform.outlet(message.address, new_key(), recovering=False).deliver([text])
        except DeliveryFailed as error:
            _log.error("notice.undelivered", error=str(error))
