"""When people write to friend, and what becomes of it on Lambda: a model of both.

People: conversations begin by a Poisson process whose rate follows the hour (a raised cosine, next
to nothing at night). A conversation has a geometric number of messages, and a person writes on
after a log-normal pause, counted from the answer. So messages come in bursts, with long gaps
between them.

Lambda: an event goes to the environment that became free last, or to a new one if none is free. An
environment ends when nobody needed it for a while (AWS gives no number, so it is a parameter), and
after some hours in any case ("every few hours", says Lambda's developer guide).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush, merge

DAY = 86_400.0
MONTH = 365.25 / 12 * DAY
_FULL_CIRCLE = 2 * math.pi


@dataclass(frozen=True)
class Habits:
    """How people talk. Pauses in seconds."""

    messages: float = 6.0
    """Mean of a conversation's messages to friend."""
    pause: float = 30.0
    """Median between an answer and the next message of the same conversation."""
    spread: float = 1.0
    """Standard deviation of the pause's logarithm."""


@dataclass(frozen=True)
class Times:
    """What is billed, seconds: an init, a reply after it, and calls of a warm environment."""

    init: float
    cold_reply: float
    reply: float
    ping: float


@dataclass(frozen=True)
class Outcome:
    """What became of the events."""

    replies: int
    cold_replies: int
    pings: int
    cold_pings: int
    billed_s: float
    cold: tuple[bool, ...]
    """One for each event, in their order, a ping after a message of the same moment."""

    @property
    def cold_share(self) -> float:
        """Of the replies, those that waited for an environment to start."""
        return self.cold_replies / self.replies if self.replies else 0.0


def messages(
    replies_a_day: float, seconds: float, *, answer_s: float = 0.0, habits: Habits | None = None,
    seed: int = 1,
) -> list[float]:  # fmt: skip
    """Moments, in seconds from midnight, at which friend is asked something; sorted.

    answer_s: what an answer takes, which the pause before the next message comes after.
    """
    habits = habits or Habits()
    rng = random.Random(seed)  # noqa: S311
    found: list[float] = []
    peak = 2 * replies_a_day / habits.messages / DAY  # conversations a second, at its highest
    begin = rng.expovariate(peak)
    while begin < seconds:
        # Thinning: of a process at the peak's rate, keep the hour's share; 3 at night is least.
        if rng.random() < (1 - math.cos(_FULL_CIRCLE * (begin / DAY - 3 / 24))) / 2:
            at = begin
            while at < seconds:
                found.append(at)
                if rng.random() < 1 / habits.messages:
                    break
                at += answer_s + rng.lognormvariate(math.log(habits.pause), habits.spread)
        begin += rng.expovariate(peak)
    return sorted(found)


def pings(minutes: float, seconds: float, *, late_s: float = 0.0, seed: int = 1) -> list[float]:
    """Moments of the warm pings, each up to `late_s` after its time; 0 minutes sends none.

    EventBridge Scheduler promises the minute, not the second.
    """
    if not minutes:
        return []
    rng = random.Random(seed)  # noqa: S311
    count = math.ceil(seconds / minutes / 60)
    return [60 * minutes * number + rng.uniform(0, late_s) for number in range(1, count)]


def simulate(
    asked: Sequence[float],
    pinged: Sequence[float],
    times: Times,
    *,
    idle_s: float,
    lifetime_s: float = math.inf,
) -> Outcome:
    """Follow every event through a function's environments.

    idle_s: an environment unused for longer is gone. lifetime_s: so is one older than that.
    """
    free: list[tuple[float, float]] = []  # (free since, born), the latest at the end
    busy: list[tuple[float, float]] = []  # a heap of (free from, born)
    counts = {True: 0, False: 0}
    cold_pings, billed, colds = 0, 0.0, []
    for at, is_ping in _together(asked, pinged):
        while busy and busy[0][0] <= at:
            free.append(heappop(busy))
        free = [one for one in free if at - one[0] <= idle_s and at - one[1] <= lifetime_s]
        cold = not free
        born = at if cold else free.pop()[1]
        warm_s = times.ping if is_ping else times.cold_reply if cold else times.reply
        taken = warm_s + (times.init if cold else 0.0)
        heappush(busy, (at + taken, born))
        billed += taken
        colds.append(cold)
        if is_ping:
            cold_pings += cold
        else:
            counts[cold] += 1
    return Outcome(
        len(asked), counts[True], len(pinged), cold_pings, billed, tuple(colds)
    )  # fmt: skip


def _together(asked: Sequence[float], pinged: Sequence[float]) -> Iterator[tuple[float, bool]]:
    """Events in their order, and whether each is a ping."""
    return merge(((at, False) for at in asked), ((at, True) for at in pinged))
