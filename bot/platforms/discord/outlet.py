"""The way back to one message: typing, a draft that grows by edits, the final parts, once each."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from bot.core.splitting import split
from bot.errors import DeliveryFailed
from bot.platforms.discord.courier import MAX_CHARACTERS
from bot.platforms.discord.typing import TypingIndicator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from bot.platforms.discord.courier import Courier, Posted

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often friend moves while it speaks.

    Attributes:
        first_show_seconds: a reply that is whole before this is posted once, without a draft.
        edit_seconds: shortest time between two edits of a draft; Discord takes 5 in 5 s.
        typing_seconds: between two typing requests; the indicator lasts 10 s.
    """

    first_show_seconds: float = 1.5
    edit_seconds: float = 1.0
    typing_seconds: float = 8.0


class DiscordOutlet:
    """Answers one message, in its channel or thread, as a reply that pings nobody.

    Every part has a nonce made from the reply key, which Discord remembers for some minutes, and
    the first part refers to the message it answers, which stays: by these, what a killed process
    had already posted is found again.
    """

    max_characters = MAX_CHARACTERS

    def __init__(
        self,
        courier: Courier,
        address: Mapping[str, str],
        reply_key: str,
        *,
        recovering: bool,
        pace: Pace,
        own_names: frozenset[str] = frozenset(),
    ) -> None:
        self.own_names = own_names
        self._courier = courier
        self._channel = int(address["channel"])
        self._guild = int(address["guild"]) if "guild" in address else None
        self._answers = int(address["message"])
        self._key = reply_key
        self._recovering = recovering
        self._pace = pace
        self._typing = TypingIndicator(self._type, every=pace.typing_seconds)
        self._began = time.monotonic()
        self._earlier: list[Posted] = []
        self._draft: Posted | None = None
        self._update: asyncio.Task[None] | None = None
        self._updated = 0.0
        self._mute = False

    def characters(self, text: str) -> int:
        """Length in UTF-16 units, which is never less than what Discord counts."""
        return len(text.encode("utf-16-le", "surrogatepass")) // 2

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Type until the context ends or the first words are posted."""
        self._began = time.monotonic()
        self._typing.start()
        try:
            yield
        finally:
            await self._typing.stop()

    async def show(self, text: str) -> bool:
        """Post or edit a draft if it is time to; runs beside the caller, one request at a time."""
        if not self._is_busy and not self._mute and self._is_time():
            shown = split(text, self.max_characters, self.characters)[0]
            if self._draft is None or self._draft.content != shown:
                self._update = asyncio.create_task(self._show(shown))
        return self._draft is not None or self._is_busy

    async def deliver(self, parts: Sequence[str]) -> Sequence[str]:
        """Complete the draft, or post; then the further parts, each once."""
        await self._settle()
        await self._typing.stop()
        await self._look_back()
        ids: list[str] = []
        for number, text in enumerate(parts):
            message = await self._place(number, text)
            if message is None:
                _log.info("reply.deleted_by_others", reply=self._key, part=number)
                break
            ids.append(str(message))
        return ids

    async def withdraw(self) -> None:
        """Delete the draft, also one that an earlier process left."""
        await self._settle()
        await self._typing.stop()
        await self._look_back()
        self._mute = True
        if self._draft is not None:
            await self._courier.delete(self._channel, self._guild, self._draft.id)
            self._draft = None

    @property
    def _is_busy(self) -> bool:
        return self._update is not None and not self._update.done()

    def _is_time(self) -> bool:
        now = time.monotonic()
        if self._draft is None:
            return now - self._began >= self._pace.first_show_seconds
        return now - self._updated >= self._pace.edit_seconds

    async def _show(self, text: str) -> None:
        try:
            await self._typing.stop()
            await self._look_back()
            if await self._place(0, text) is None:
                self._mute = True
        except DeliveryFailed as error:
            self._mute = True
            _log.info("draft.not_shown", reply=self._key, error=str(error))
        except Exception:  # noqa: BLE001 - a partial view is a courtesy; the reply is yet to come
            self._mute = True
            _log.exception("draft.not_shown", reply=self._key)
        finally:
            self._updated = time.monotonic()

    async def _place(self, number: int, text: str) -> int | None:
        """Have this text stand as this part, by an edit, a post or nothing at all.

        Returns its message id; None if somebody deleted the message meanwhile, which is respected.
        """
        posted = self._draft if number == 0 else self._posted_earlier(text)
        if posted is None:
            posted = await self._courier.send(
                self._channel,
                self._guild,
                text,
                nonce=self._nonce(number),
                answers=self._answers if number == 0 else None,
            )
        if posted is None:
            return None
        if number == 0:
            self._draft = posted
        if posted.content.strip() != text.strip():
            if not await self._courier.edit(self._channel, self._guild, posted.id, text):
                return None
            if number == 0:
                self._draft = replace(posted, content=text)
        return posted.id

    def _posted_earlier(self, text: str) -> Posted | None:
        """A further part that an earlier attempt posted, known by its words."""
        for message in self._earlier:
            if message.content.strip() == text.strip():
                self._earlier.remove(message)
                return message
        return None

    async def _look_back(self) -> None:
        """Once, when recovering: find what an earlier attempt has posted."""
        if not self._recovering:
            return
        own = await self._courier.own_messages(self._channel, self._guild, self._answers)
        self._recovering = False
        for position, message in enumerate(own):
            if message.answers == self._answers:
                self._draft = self._draft or message
                self._earlier = [later for later in own[position + 1 :] if not later.answers]
                return

    async def _settle(self) -> None:
        """Wait for a draft request under way: cancelling it would leave its outcome unknown."""
        if self._update is not None:
            await asyncio.wait([self._update])

    async def _type(self) -> None:
        await self._courier.typing(self._channel, self._guild)

    def _nonce(self, number: int) -> str:
        """At most 25 characters, as Discord demands."""
        return f"{self._key}-{number}"
