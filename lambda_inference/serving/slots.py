"""A bounded queue in front of the model: so many replies at a time, so many waiting, then 429.

A reply takes a place for each of its drafts.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from lambda_inference.errors import Busy, DeadlinePassed

_LOOK_SECONDS = 0.1  # between two looks at whether a waiting client has gone
_FIRST_GUESS = 3.0  # seconds a reply takes, before one was measured


class Slots:
    """First come, first served. A `Ticket` is a place in the queue, then a slot."""

    def __init__(self, parallel: int, queue: int) -> None:
        self._parallel = parallel
        self._queue = queue
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._running = 0
        self._taken = 0
        self._reply_seconds = _FIRST_GUESS

    def enter(self) -> Ticket:
        """A place in the queue.

        Raises:
            Busy: all places are taken; says when to come back.
        """
        with self._changed:
            if self._running + len(self._waiting) >= self._parallel + self._queue:
                ahead = (len(self._waiting) + 1) / self._parallel * self._reply_seconds
                raise Busy(
                    "The server is busy with other conversations. Try again in a moment.",
                    retry_after=max(1, min(60, math.ceil(ahead / 2))),
                )
            ticket = Ticket(self)
            self._waiting.append(ticket)
            return ticket

    def wait(self, ticket: Ticket, deadline: float | None, cancelled: Callable[[], bool]) -> bool:
        """See `Ticket.wait`."""
        with self._changed:
            while self._waiting[0] is not ticket or not self._fits(ticket):
                if cancelled():
                    return False
                if deadline is not None and time.monotonic() >= deadline:
                    raise DeadlinePassed(
                        "The time limit passed while others were being answered. Try again.",
                        code="deadline_passed",
                    )
                self._changed.wait(_LOOK_SECONDS)
            self._waiting.popleft()
            self._running += 1
            self._taken += ticket.places
            self._changed.notify_all()
            return True

    def leave(self, ticket: Ticket, seconds: float | None) -> None:
        """See `Ticket.leave`. `seconds` is how long it held a slot, None if it never had one."""
        with self._changed:
            if seconds is None:
                self._waiting.remove(ticket)
            else:
                self._running -= 1
                self._taken -= ticket.places
                self._reply_seconds += (seconds - self._reply_seconds) / 8
            self._changed.notify_all()

    def _fits(self, ticket: Ticket) -> bool:
        """Whether its places are free; one that wants more than there are runs by itself."""
        return not self._taken or self._taken + ticket.places <= self._parallel

    @property
    def running(self) -> int:
        """Replies being made."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests that wait for that."""
        return len(self._waiting)


class Ticket:
    """A place in the queue; left exactly once, however often `leave` is called."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.places = 1
        """States that it needs; told before `wait`."""
        self._began: float | None = None
        self._left = False

    def wait(self, deadline: float | None, cancelled: Callable[[], bool]) -> bool:
        """Wait for a slot; False if the client went away first.

        Raises:
            DeadlinePassed: `time.monotonic()` passed `deadline`.
        """
        if not self._slots.wait(self, deadline, cancelled):
            return False
        self._began = time.monotonic()
        return True

    def leave(self) -> None:
        """Give the place or the slot back."""
        if not self._left:
            self._left = True
            seconds = None if self._began is None else time.monotonic() - self._began
            self._slots.leave(self, seconds)
