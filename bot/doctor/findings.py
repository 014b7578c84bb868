"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a part of friend stands."""

    OK = "ok"
    ABSENT = "absent"
    """Not set up; friend works without it."""
    BROKEN = "broken"
    """Set up, and does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One part: how it stands, why, and what to do about it."""

    part: str
    status: Status
    detail: str
    remedy: str = ""
