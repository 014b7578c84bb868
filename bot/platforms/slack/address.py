"""Where a reply belongs: what is kept of a message to answer it later, even after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """A message, its thread, and the person who is answered.

    Attributes:
        thread_ts: the thread's root; of a top-level message, the message itself.
        ts: the message to answer.
        user: whom Slack streams the reply to.
        team: that person's workspace, which in a shared channel may be another one.
    """

    channel: str
    thread_ts: str
    ts: str
    user: str
    team: str

    def stored(self) -> dict[str, str]:
        """As `IncomingMessage.address` holds it."""
        return asdict(self)

    @classmethod
    def read(cls, stored: Mapping[str, str]) -> Address:
        """Back from what was stored."""
        return cls(**{name: str(stored.get(name, "")) for name in cls.__slots__})
