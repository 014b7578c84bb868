"""One thing Slack wants the app to know, and whether the app has acknowledged it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Kind = Literal["events_api", "slash_commands", "interactive"]

ACK_SECONDS = 3.0
"""How long the app has to acknowledge (https://docs.slack.dev/apis/events-api)."""

RETRY_DELAYS = (0.0, 60.0, 300.0)
"""Slack retries an event at once, after a minute, and after five more."""


@dataclass(eq=False)
class Delivery:
    """An event, command or interaction on its way; events alone are tried again."""

    kind: Kind
    payload: dict[str, Any]
    attempts: list[str] = field(default_factory=list)
    """Why each try was made: `first`, then the retry reasons."""
    answer: dict[str, Any] | None = None
    """What the acknowledgement carried, `{}` when it was empty."""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def retryable(self) -> bool:
        return self.kind == "events_api"

    @property
    def acknowledged(self) -> bool:
        return self.answer is not None

    def acknowledge(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.done.set()

    def give_up(self) -> None:
        self.done.set()


class Carrier(Protocol):
    """Brings deliveries to the app: Socket Mode or signed HTTP."""

    async def carry(self, delivery: Delivery) -> None:
        """Try until acknowledged or out of tries; never raises for the app's mistakes."""
