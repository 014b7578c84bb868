"""The part of a conversation that the model is given."""

from __future__ import annotations

from collections.abc import Sequence

from bot.core.conversation import Role, Turn
from inference_client import ChatMessage


def first_kept(turns: Sequence[Turn], limit_characters: int) -> int:
    """Index of the first turn to keep.

    Within the limit everything is kept. Past it, the oldest turns go until half of the limit is
    left: the model server caches its state by prefix, and a window that slid by one turn each time
    would change the prefix, and miss, at every reply. The last turn always stays, and the window
    starts with a person's turn where there is one.
    """
    sizes = [len(turn.text) for turn in turns]
    total = sum(sizes)
    if total <= limit_characters:
        return 0
    first = 0
    while first < len(turns) - 1 and total > limit_characters // 2:
        total -= sizes[first]
        first += 1
    start = first
    while start < len(turns) - 1 and turns[start].role is Role.FRIEND:
        start += 1
    return start


def to_messages(
    turns: Sequence[Turn], *, persona: str, message_characters: int
) -> list[ChatMessage]:
    """Write the turns as chat messages, the persona first; a very long turn is cut for the model.

    An empty turn (a bare mention) is left out.
    """
    messages = [ChatMessage("system", persona)] if persona else []
    for turn in turns:
        text = turn.text.strip()
        if not text:
            continue
        if len(text) > message_characters:
            text = text[:message_characters].rstrip() + "…"
        name = turn.speaker.name if turn.speaker else None
        messages.append(ChatMessage(turn.role.value, text, name))
    return messages
