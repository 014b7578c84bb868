"""The part of a conversation that the model is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bot import texts
from bot.core.conversation import Role, Turn
from inference_client import ChatMessage

_TURN_CHARACTERS = 8
"""What a turn costs beside its words, for its role and its end."""
_SHORTEST_MESSAGE = 16


def _length(turn: Turn) -> int:
    return len(turn.text)


def first_kept(
    turns: Sequence[Turn], limit_characters: int, measure: Callable[[Turn], int] = _length
) -> int:
    """Index of the first turn to keep.

    Within the limit everything is kept. Past it, the oldest turns go until half of the limit is
    left: the model server caches its state by prefix, and a window that slid by one turn each time
    would change the prefix, and miss, at every reply. The last turn always stays, and the window
    starts with a person's turn where there is one.
    """
    sizes = [measure(turn) for turn in turns]
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


def fit(
    turns: Sequence[Turn],
    *,
    persona: str,
    window_characters: int,
    message_characters: int,
    most: int | None = None,
) -> tuple[int, list[ChatMessage]]:
    """The index of the first turn to keep, and the kept ones as chat messages.

    Args:
        turns: the conversation up to the message to answer.
        persona: a system message, or "".
        window_characters: see `ReplySettings`.
        message_characters: see `ReplySettings`.
        most: the `size` that the model is known to read, if it is; past it the window hops as
            well, and a message is cut to half of it.
    """
    first = first_kept(turns, window_characters, lambda t: min(len(t.text), message_characters))
    if most is None:
        return first, to_messages(
            turns[first:], persona=persona, message_characters=message_characters
        )
    room = most - size(to_messages([], persona=persona, message_characters=message_characters))
    longest = max(min(message_characters, room // 2 - _TURN_CHARACTERS), _SHORTEST_MESSAGE)

    def cost(turn: Turn) -> int:
        return size(to_messages([turn], persona="", message_characters=message_characters))

    first += first_kept(turns[first:], room, cost)
    return first, to_messages(turns[first:], persona=persona, message_characters=longest)


def size(messages: Sequence[ChatMessage]) -> int:
    """Characters of a prompt: words, names, and something for each turn."""
    return sum(len(m.content) + len(m.name or "") + _TURN_CHARACTERS for m in messages)


def to_messages(
    turns: Sequence[Turn], *, persona: str, message_characters: int
) -> list[ChatMessage]:
    """Write the turns as chat messages, the persona first; a very long turn is cut for the model.

    An empty turn (a bare mention) is left out, and so is the sentence under a reply that broke off.
    """
    messages = [ChatMessage("system", persona)] if persona else []
    for turn in turns:
        text = turn.text.strip()
        if turn.role is Role.FRIEND:
            text = texts.without_unfinished(text)
        if not text:
            continue
        if len(text) > message_characters:
            text = text[:message_characters].rstrip() + "…"
        name = turn.speaker.name if turn.speaker else None
        messages.append(ChatMessage(turn.role.value, text, name))
    return messages
