"""What every reader gives and everything else takes: a conversation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation: `turns[0]`, `turns[2]`, ... are one speaker, the rest the other."""

    source: str
    turns: tuple[str, ...]
    sub: str = ""
    roles: bool = False
    """Whether the second speaker is the one to imitate, and not just another person."""
