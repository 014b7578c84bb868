"""Who may talk to friend, and how much in a minute."""

from __future__ import annotations

from enum import StrEnum

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from bot.core.conversation import ConversationKey, Person
from bot.settings import AccessSettings


def permitted(
    conversation: ConversationKey, person_id: str, settings: AccessSettings, *, is_direct: bool
) -> bool:
    """Whether the lists let friend hear this person here. A block outweighs an allowance.

    The lists of spaces and channels say where friend works among others; a direct message belongs
    to neither, so only the lists of people apply to it.
    """
    lists = [(settings.allow_people, settings.block_people, {person_id})]
    if not is_direct:
        lists.append((settings.allow_spaces, settings.block_spaces, {conversation.space}))
        channels = {conversation.channel, conversation.thread} - {""}
        lists.append((settings.allow_channels, settings.block_channels, channels))
    return all(
        not (blocked & ids) and (not allowed or bool(allowed & ids))
        for allowed, blocked, ids in lists
    )


class Pace(StrEnum):
    """Whether a reply fits the limits."""

    FINE = "fine"
    TOO_FAST = "too fast"
    STILL_TOO_FAST = "still too fast"
    """Over the limit, and told so less than a minute ago."""


class RateLimits:
    """Replies a minute, by person and by channel; kept in memory."""

    def __init__(self, settings: AccessSettings) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._person = _per_minute(settings.person_per_minute)
        self._channel = _per_minute(settings.channel_per_minute)
        self._notice = RateLimitItemPerMinute(1)

    def take(self, conversation: ConversationKey, person: Person) -> Pace:
        """Count one reply to `person` in `conversation`, if both limits allow it."""
        who = ("person", conversation.platform, person.id)
        where = ("channel", conversation.platform, conversation.space, conversation.channel)
        limits = [
            (item, ids) for item, ids in ((self._person, who), (self._channel, where)) if item
        ]
        if all(self._limiter.test(item, *ids) for item, ids in limits):
            for item, ids in limits:
                self._limiter.hit(item, *ids)
            return Pace.FINE
        first = self._limiter.hit(self._notice, "notice", *where, person.id)
        return Pace.TOO_FAST if first else Pace.STILL_TOO_FAST


def _per_minute(amount: int) -> RateLimitItemPerMinute | None:
    return RateLimitItemPerMinute(amount) if amount else None
