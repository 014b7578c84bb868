"""How long a prompt may be: learnt from what the model refuses, since each counts in its own way.

The window is measured in characters, a model's context in tokens, and how many of these a character
makes depends on the script and on the vocabulary. A refusal for length shows that the context ends
below the refused prompt; the next answer's `usage` shows what a character costs there.
"""

from __future__ import annotations

from cachetools import LRUCache

from bot.core.conversation import ConversationKey

_CONVERSATIONS = 2000
_MARGIN = 0.75
"""Of a refused length, what is taken for safe; words differ in what they cost."""


class Room:
    """What one model is known not to read, and what a character costs in each conversation."""

    def __init__(self) -> None:
        self._tokens: float | None = None
        self._tokens_a_character: LRUCache[ConversationKey, float] = LRUCache(_CONVERSATIONS)
        self._characters: LRUCache[ConversationKey, int] = LRUCache(_CONVERSATIONS)
        self._refused: LRUCache[ConversationKey, int] = LRUCache(_CONVERSATIONS)

    def characters(self, conversation: ConversationKey) -> int | None:
        """The longest prompt to try there, in characters; None if nothing speaks against any."""
        cost = self._tokens_a_character.get(conversation)
        if self._tokens is not None and cost:
            return int(self._tokens / cost)
        return self._characters.get(conversation)

    def refused(self, conversation: ConversationKey, characters: int) -> None:
        """A prompt of so many characters was too long."""
        self._refused[conversation] = characters
        self._characters[conversation] = characters // 2

    def accepted(self, conversation: ConversationKey, characters: int, tokens: int) -> None:
        """A prompt of so many characters was read, as so many tokens; 0 if that was not said."""
        refused = self._refused.pop(conversation, None)
        if not tokens or not characters:
            return
        cost = tokens / characters
        if refused is not None:
            dearest = max(cost, self._tokens_a_character.get(conversation, 0.0))
            most = _MARGIN * refused * dearest
            self._tokens = most if self._tokens is None else min(self._tokens, most)
        self._tokens_a_character[conversation] = cost
