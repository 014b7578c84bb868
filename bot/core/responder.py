"""The one use case: remember -> infer -> post -> remember."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from uuid import uuid4

import structlog

from bot import texts
from bot.core.cleaning import clean_reply
from bot.core.conversation import PendingReply, ReplyState
from bot.core.manners import has_slur, is_distress
from bot.core.ports import Observer, Outlet, Outlets, ReplyTimes, Store
from bot.core.queue import Work
from bot.core.room import Room
from bot.core.splitting import closed, split
from bot.core.waking import Waker
from bot.core.window import fit, size
from bot.errors import DeliveryFailed, StoreFailed
from bot.settings import ReplySettings
from inference_client import (
    BadAnswer,
    ChatMessage,
    InferenceClient,
    InferenceError,
    Refused,
    SamplingOptions,
    TimedOut,
    Timings,
    Unreachable,
)

_log = structlog.get_logger(__name__)

_PAUSE_PER_CHARACTER = 1e-5
"""Seconds between two views of a growing reply, per character of it."""
_BROKE_OFF = (Unreachable, TimedOut, BadAnswer)
"""A reply ended so is kept as far as it came; where the server itself says that it failed, not."""
_POST_AGAIN_AFTER = (2.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds before each further try to post what a platform would not take; the last repeats."""


@dataclass(frozen=True, slots=True)
class Responder:
    """Makes one reply at a time for a lane of the queue, and keeps the store's promise of it.

    Attributes:
        answer_within: how long after its message a reply is still worth posting.
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

        Cancelling withdraws a visible draft, unless the work says to keep it. Only then can the
        promise still stand: for whoever cancelled to close, or for the next process.
        """
        while work.replies and not await _Attempt(self, work).run():
            # The newest message was deleted meanwhile; the rest of its burst still waits.
            work.replies.pop()
            work.committed = False

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

    async def prompt(self, reply: PendingReply, most: int | None) -> list[ChatMessage]:
        """The conversation up to the message to answer, trimmed, as the model reads it.

        Args:
            reply: whose message is the last.
            most: the `size` that the model is known to read, if it is.
        """
        turns = await self.store.window(reply.conversation)
        turns = [turn for turn in turns if turn.place <= (reply.turn_id, 0)]
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


class _Attempt:
    """The state of one reply being made."""

    def __init__(self, responder: Responder, work: Work) -> None:
        self._owner = responder
        self._work = work
        self._reply = work.newest
        self._age = max(0.0, (datetime.now(UTC) - self._reply.created_at).total_seconds())
        self._start = time.monotonic()
        self._first_word: float | None = None
        self._words: float | None = None
        self._show_next = 0.0
        self._timings: Timings | None = None
        self._speakers: frozenset[str] = frozenset()
        recovering = work.recovering or self._reply.state is ReplyState.POSTING
        self._outlet = responder.outlet(self._reply, recovering=recovering)

    async def run(self) -> bool:
        """Make the reply; False if nobody wants it any more."""
        with structlog.contextvars.bound_contextvars(
            reply=self._reply.key,
            platform=self._reply.conversation.platform,
            conversation=self._reply.conversation,
        ):
            try:
                return await self._run()
            except asyncio.CancelledError:
                if not self._work.keep_draft:
                    await self._withdraw()
                raise
            except StoreFailed as error:
                _log.error("store.failed", error=str(error))
                await self._apologise_without_store()
                return True

    async def _run(self) -> bool:
        if self._reply.state is ReplyState.POSTING:
            await self._post(self._reply.parts, is_apology=self._reply.is_apology)
            return True
        async with self._outlet.working():
            text, is_apology = await self._words_to_post()
            self._words = self._elapsed()
            self._work.committed = True
            parts = split(text, self._outlet.max_characters, self._outlet.characters)
            others = [reply.key for reply in reversed(self._work.replies[:-1])]
            keys = [self._reply.key, *others]
            if not await self._owner.store.begin_posting(keys, parts, is_apology=is_apology):
                await self._withdraw()
                self._count("cancelled")
                return False
            await self._post(parts, is_apology=is_apology)
            return True

    async def _words_to_post(self) -> tuple[str, bool]:
        """What to say, and whether it is friend's own sentence rather than the model's."""
        conversation = self._reply.conversation
        most = self._owner.room.characters(conversation)
        messages = await self._owner.prompt(self._reply, most)
        self._speakers = frozenset(message.name for message in messages if message.name)
        asked = takewhile(lambda message: message.role == "user", reversed(messages))
        if any(is_distress(message.content) for message in asked):
            return texts.DISTRESS, True
        try:
            text = await self._infer_what_fits(messages)
        except InferenceError as error:
            error_id = self._log_failure(error)
            said = self._cleaned(error.text_so_far) if isinstance(error, _BROKE_OFF) else ""
            if said and not has_slur(said):
                return texts.unfinished(closed(said), error_id), False
            return texts.model_down(error_id, again=error.retryable), True
        return text or texts.SPEECHLESS, not text

    async def _infer_what_fits(self, messages: Sequence[ChatMessage]) -> str:
        """The model's words; a prompt that is too long for it is shortened, as often as need be."""
        owner, conversation = self._owner, self._reply.conversation
        while True:
            characters = size(messages)
            try:
                return await self._infer(messages)
            except Refused as error:
                if not error.too_long:
                    raise
                shorter = await owner.prompt(self._reply, characters - 1)
                if size(shorter) >= characters:
                    raise
                _log.info("prompt.too_long", characters=characters, error=str(error))
                owner.room.refused(conversation, characters)
                messages = shorter

    async def _infer(self, messages: Sequence[ChatMessage]) -> str:
        """The model's words, shown as they come; once more if there were none fit to say."""
        owner = self._owner
        await owner.waker.awake()
        for _ in range(2):
            text = ""
            owner.waker.used()
            asker = str(self._reply.conversation)
            async with owner.model.stream(messages, owner.options(), asker=asker) as stream:
                async for piece in stream:
                    text += piece
                    if self._first_word is None and text.strip():
                        self._first_word = self._elapsed()
                    await self._show(text)
                final = stream.final
            owner.waker.used()
            self._timings = final.timings
            tokens = final.usage.prompt_tokens
            owner.room.accepted(self._reply.conversation, size(messages), tokens)
            text = self._cleaned(text)
            if text and not has_slur(text):
                return text
        return ""

    def _cleaned(self, text: str) -> str:
        return clean_reply(text, speakers=self._speakers, own=self._outlet.own_names)

    async def _show(self, text: str) -> None:
        """Offer what there is; the longer it is, the less often, as cleaning reads all of it."""
        now = time.monotonic()
        if now < self._show_next:
            return
        self._show_next = now + len(text) * _PAUSE_PER_CHARACTER
        shown = self._cleaned(text)
        if shown and not has_slur(shown) and await self._outlet.show(shown):
            self._work.committed = True

    async def _post(self, parts: Sequence[str], *, is_apology: bool) -> None:
        """Post the stored words, however often it takes while the promise is young enough."""
        pauses = iter(_POST_AGAIN_AFTER)
        pause = 0.0
        while True:
            try:
                message_ids = await self._outlet.deliver(parts)
            except DeliveryFailed as error:
                pause = next(pauses, pause)
                late = self._elapsed() + pause > self._owner.answer_within.total_seconds()
                if late or not error.retryable:
                    _log.error("reply.undelivered", error=str(error))
                    await self._owner.store.close_reply(self._reply.key, ReplyState.FAILED)
                    self._count("undelivered")
                    return
                _log.warning("reply.delivery_failed", error=str(error), again_in_seconds=pause)
                await asyncio.sleep(pause)
                self._outlet = self._owner.outlet(self._reply, recovering=True)
            else:
                await self._owner.store.finish(self._reply.key, message_ids)
                self._count("apologised" if is_apology else "answered")
                return

    async def _withdraw(self) -> None:
        try:
            await self._outlet.withdraw()
        except DeliveryFailed as error:
            _log.warning("draft.not_withdrawn", error=str(error))

    async def _apologise_without_store(self) -> None:
        """Say that the history is down; nothing can be promised or remembered now."""
        try:
            await self._outlet.deliver([texts.HISTORY_DOWN])
            for reply in self._work.replies:
                await self._owner.store.close_reply(reply.key, ReplyState.FAILED)
        except (DeliveryFailed, StoreFailed) as error:
            _log.error("apology.failed", error=str(error))

    def _log_failure(self, error: InferenceError) -> str:
        error_id = uuid4().hex[:8]
        _log.error(
            "model.failed",
            error_id=error_id,
            request_id=error.request_id,
            kind=type(error).__name__,
            error=str(error),
        )
        return error_id

    def _elapsed(self) -> float:
        return self._age + time.monotonic() - self._start

    def _count(self, outcome: str) -> None:
        times = ReplyTimes(
            started=self._age,
            first_word=self._first_word,
            words=self._words,
            posted=self._elapsed(),
            model=self._timings,
        )
        self._owner.observer.replied(self._reply.conversation.platform, outcome, times)
