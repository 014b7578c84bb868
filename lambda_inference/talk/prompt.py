"""Messages to token turns: the text a model was trained on, one turn at a time.

A turn is tokenized by itself, label, words and separator apart. So the tokens of a conversation are
always a prefix of the tokens of the same conversation one turn later, which is what lets the state
cache go on from where the last reply ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lambda_inference.gguf.chat_template import ChatTemplate, Role
from lambda_inference.talk.tokenizer import Tokenizer


@dataclass(frozen=True)
class Message:
    """One message of the request, its parts already joined."""

    role: Role
    text: str
    name: str | None = None


@dataclass(frozen=True)
class Prompt:
    """A conversation in tokens, ready for the model to go on as the assistant."""

    turns: tuple[tuple[int, ...], ...]
    """Whole turns, separators included; the first begins with the end-of-text token, if any."""
    opening: tuple[int, ...]
    """The assistant's label."""
    user_labels: tuple[str, ...]
    """Labels that others speak under, which a reply must never use."""
    previous_replies: tuple[tuple[int, ...], ...] = field(default=())
    """Tokens of the assistant's own turns, oldest first, label and separator left out."""

    @property
    def length(self) -> int:
        """Tokens to feed before the first word."""
        return sum(map(len, self.turns)) + len(self.opening)


class PromptBuilder:
    """Writes conversations in one model's template and vocabulary."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self.template = template
        self._tokenizer = tokenizer

    def build(self, messages: Sequence[Message]) -> Prompt:
        """Turns of a conversation; neighbours with the same label become one turn."""
        spoken: list[tuple[str, str]] = []
        labels = dict.fromkeys([self.template.user])
        for message in messages:
            label = self.template.label(message.role, message.name)
            words = self.template.words(message.text)
            if label is None or not words:
                continue
            if message.role == "user":
                labels[label] = None
            if spoken and spoken[-1][0] == label:
                spoken[-1] = (label, f"{spoken[-1][1]} {words}")
            else:
                spoken.append((label, words))
        turns, replies = [], []
        start = self.start
        for label, words in spoken:
            body = self.body(words)
            turns.append((*start, *self.tokens(label), *body, *self.separator))
            start = ()
            if label == self.template.assistant:
                replies.append(body)
        opening = (*start, *self.label)
        return Prompt(tuple(turns), opening, tuple(labels), tuple(replies))

    def body(self, words: str) -> tuple[int, ...]:
        """Tokens of a turn's words: with the space that stands between them and the label."""
        return tuple(self._tokenizer.encode(f" {words}"))

    def tokens(self, text: str) -> tuple[int, ...]:
        """Tokens of a fixed part of the template: one, where the vocabulary has it."""
        single = self._tokenizer.reserved(text)
        return tuple(self._tokenizer.encode(text)) if single is None else (single,)

    @property
    def vocab_size(self) -> int:
        """Every token is below it."""
        return self._tokenizer.vocab_size

    @cached_property
    def start(self) -> tuple[int, ...]:
        """What stands before a conversation's first turn."""
        end = self.end_of_text
        return () if end is None else (end,)

    @cached_property
    def label(self) -> tuple[int, ...]:
        """The assistant's."""
        return self.tokens(self.template.assistant)

    @cached_property
    def separator(self) -> tuple[int, ...]:
        """What ends a turn."""
        return self.tokens(self.template.separator) if self.template.separator else ()

    @cached_property
    def end_of_text(self) -> int | None:
        """The token between conversations, if the model has one."""
        end = self.template.end_of_text
        return self._tokenizer.reserved(end) if isinstance(end, str) else end
