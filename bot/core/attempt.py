"""One reply being made: remember -> infer -> post -> remember."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice, takewhile
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import structlog

from bot import texts
from bot.core.cleaning import clean_reply
from bot.core.conversation import ReplyState
from bot.core.manners import has_slur, is_distress
from bot.core.ports import ReplyTimes
from bot.core.splitting import closed, split
from bot.core.window import size
from bot.errors import DeliveryFailed, StoreFailed
from inference_client import (
    BadAnswer,
    ChatMessage,
    InferenceError,
    Refused,
    TimedOut,
    Timings,
    Unreachable,
)

if TYPE_CHECKING:
    from bot.core.queue import Work
    from bot.core.responder import Responder

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_PAUSE_PER_CHARACTER = 1e-5
"""Seconds between two views of a growing reply, per character of it."""
_BROKE_OFF = (Unreachable, TimedOut, BadAnswer)
"""A reply ended so is kept as far as it came; where the server itself says that it failed, not."""
POST_AGAIN_AFTER = (2.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds before each further try to post what a platform would not take; the last repeats."""
POST_WITHIN_SECONDS = 24 * 3600.0
"""Words that were made are posted so long after their message, at the latest."""
TELL_STORE_AGAIN_AFTER = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each further try to tell the store what has been done; the last repeats."""
SURE_SECONDS = 10.0
"""So long after the store said so a process is sure to own the conversation; half of a lease."""


class Attempt:
    """The state of one reply being made."""

    def __init__(self, responder: Responder, work: Work) -> None:
        self._owner = responder
        self._work = work
        self._reply = work.newest
        self._age = max(0.0, (datetime.now(UTC) - self._reply.created_at).total_seconds())
        self._start = self._sure_since = time.monotonic()
        self._first_word: float | None = None
        self._words: float | None = None
        self._show_next = 0.0
        self._timings: Timings | None = None
        self._speakers: frozenset[str] = frozenset()
        self._outlet = responder.outlet(self._reply, recovering=work.recovering)

    async def run(self) -> bool:
        """Make the reply; False if nobody wants it any more.

        Raises:
            StoreFailed: the history is down; another attempt may go on.
        """
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

    async def _run(self) -> bool:
        if self._reply.state is ReplyState.WITHDRAWING:
            await self._take_back()
            return True
        if self._reply.state is ReplyState.POSTING:
            await self._post(self._reply.parts, is_apology=self._reply.is_apology)
            return True
        async with self._outlet.working():
            found = await self._words_to_post()
            if found is None:
                return await self._not_begun()
            text, is_apology = found
            self._words = self._elapsed()
            self._work.committed = True
            parts = split(text, self._outlet.max_characters, self._outlet.characters)
            if not await self._begin(parts, is_apology=is_apology):
                return await self._not_begun()
            await self._post(parts, is_apology=is_apology)
            return True

    async def _begin(self, parts: Sequence[str], *, is_apology: bool) -> bool:
        others = [reply.key for reply in reversed(self._work.replies[:-1])]
        keys = [self._reply.key, *others]
        begun = await self._owner.store.begin_posting(keys, parts, is_apology=is_apology)
        self._sure_since = time.monotonic()
        return begun

    async def _not_begun(self) -> bool:
        """Find out why the words may not be posted, and do what is to be done instead."""
        owed = await self._owner.store.owed(self._reply.conversation)
        now = next((reply for reply in owed or () if reply.key == self._reply.key), None)
        if now is None:
            # Another process's by now, or closed: what stands on the platform is not ours.
            _log.info("reply.of_another_process")
            return True
        self._reply = now
        if now.state is ReplyState.WITHDRAWING:
            await self._take_back()
            return False
        if now.state is ReplyState.QUEUED:  # its message has left the window
            if not await self._begin([texts.SPEECHLESS], is_apology=True):
                return True
            await self._post([texts.SPEECHLESS], is_apology=True)
            return True
        # An earlier try to write them down went through, and its answer was lost.
        await self._post(now.parts, is_apology=now.is_apology)
        return True

    async def _words_to_post(self) -> tuple[str, bool] | None:
        """What to say, and whether it is friend's own sentence rather than the model's.

        None if nobody wants it any more.
        """
        if self._work.is_late:
            return texts.TOO_LATE, True
        most = self._owner.room.characters(self._reply.conversation)
        messages = await self._owner.prompt(self._reply, most)
        if messages is None:
            return None
        self._speakers = frozenset(message.name for message in messages if message.name)
        heard = takewhile(lambda message: message.role == "user", reversed(messages))
        asked = islice(heard, len(self._work.replies))  # what was said before has had its answer
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
                if shorter is None or size(shorter) >= characters:
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
        if shown and not has_slur(shown):
            try:
                is_visible = await self._outlet.show(shown)
            except Exception:  # noqa: BLE001 - a partial view is a courtesy; the reply is not
                _log.exception("draft.not_shown")
                self._show_next = math.inf
                return
            if is_visible:
                self._work.committed = True

    async def _post(self, parts: Sequence[str], *, is_apology: bool) -> None:
        """Post the stored words, however often it takes."""
        pauses = iter(POST_AGAIN_AFTER)
        pause = 0.0
        while await self._is_ours():
            try:
                message_ids = await self._outlet.deliver(parts)
            except DeliveryFailed as error:
                pause = next(pauses, pause)
                if not error.retryable or self._elapsed() + pause > POST_WITHIN_SECONDS:
                    await self._give_up(error)
                    return
                _log.warning("reply.delivery_failed", error=str(error), again_in_seconds=pause)
                await asyncio.sleep(pause)
                self._outlet = self._owner.outlet(self._reply, recovering=True)
            else:
                await self._tell_store(
                    partial(self._owner.store.finish, self._reply.key, message_ids)
                )
                self._count("apologised" if is_apology else "answered")
                return

    async def _give_up(self, error: DeliveryFailed) -> None:
        """These words cannot be posted: say so, if others can, and leave no draft behind."""
        _log.error("reply.undelivered", error=str(error))
        self._count("undelivered")
        if error.words_refused:
            try:
                outlet = self._owner.outlet(self._reply, recovering=True)
                await outlet.deliver([texts.UNSAYABLE])
            except DeliveryFailed as again:
                _log.error("apology.failed", error=str(again))
            else:
                await self._close(ReplyState.FAILED)
                return
        await self._close(ReplyState.FAILED if await self._withdraw() else ReplyState.WITHDRAWING)

    async def _take_back(self) -> None:
        """See to it that nothing is left of a reply nobody wants."""
        if await self._withdraw():
            await self._close(ReplyState.CANCELLED)
        self._count("cancelled")

    async def _withdraw(self) -> bool:
        """Take back a draft; False if it may still be there, and can be taken back later."""
        try:
            await self._outlet.withdraw()
        except DeliveryFailed as error:
            _log.warning("draft.not_withdrawn", error=str(error))
            self._work.left_draft = error.retryable
            self._work.recovering = True
            return not error.retryable
        return True

    async def say_history_is_down(self) -> None:
        """Say it; nothing can be promised or remembered now, so nothing more will come."""
        await self._say_instead(texts.HISTORY_DOWN)

    async def say_it_broke(self) -> None:
        """Say that a defect has cost the reply."""
        error_id = uuid4().hex[:8]
        _log.error("reply.given_up", error_id=error_id, reply=self._reply.key)
        await self._say_instead(texts.broken(error_id))

    async def _say_instead(self, sentence: str) -> None:
        """Post a sentence in place of the reply, if that can be done, and close its promises."""
        try:
            if self._reply.state is not ReplyState.WITHDRAWING:
                await self._owner.outlet(self._reply, recovering=True).deliver([sentence])
        except DeliveryFailed as error:
            _log.error("apology.failed", error=str(error))
        except Exception:  # noqa: BLE001 - the promise must be closed, whatever is broken
            _log.exception("apology.failed")
        self._count("undelivered")
        for reply in self._work.replies:
            await self._close(ReplyState.FAILED, reply.key)

    async def _is_ours(self) -> bool:
        """Whether this process is to post: a stalled one may have been taken for dead."""
        if time.monotonic() - self._sure_since < SURE_SECONDS:
            return True
        owed = await self._owner.store.owed(self._reply.conversation)
        self._sure_since = time.monotonic()
        if any(reply.key == self._reply.key for reply in owed or ()):
            return True
        _log.info("reply.of_another_process")
        return False

    async def _close(self, state: ReplyState, key: str = "") -> None:
        key = key or self._reply.key
        await self._tell_store(partial(self._owner.store.close_reply, key, state))

    async def _tell_store(self, call: Callable[[], Awaitable[frozenset[str]]]) -> None:
        """Have the store know what was done, as soon as it can be told."""
        pauses = iter(TELL_STORE_AGAIN_AFTER)
        pause = 0.0
        while True:
            try:
                self._work.still_owed = await call()
            except StoreFailed as error:
                if self._elapsed() > POST_WITHIN_SECONDS:
                    _log.error("store.failed", error=str(error))
                    return
                pause = next(pauses, pause)
                _log.warning("store.failed", error=str(error), again_in_seconds=pause)
                await asyncio.sleep(pause)
            else:
                return

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
        if self._reply.is_notice:
            return
        times = ReplyTimes(
            started=self._age,
            first_word=self._first_word,
            words=self._words,
            posted=self._elapsed(),
            model=self._timings,
        )
        self._owner.observer.replied(self._reply.conversation.platform, outcome, times)
