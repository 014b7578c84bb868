"""How well a model predicts conversations it never saw, in bits per byte: what is counted.

Counted are the bits of every turn's text and of what ends the turn, with the whole history of the
conversation given; labels and the end of the conversation are left out. Bytes are those of the
text in UTF-8 plus one for each end of a turn. So models with different tokenizers compare, which
the perplexity of a token does not allow.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finetuning.data.corpus import Conversation
from finetuning.errors import EvaluationError
from lambda_inference.talk.prompt import PromptBuilder

ALL = "all"
"""Name of the row of all conversations together."""

Done = Callable[[int], None]
"""Told how many tokens more have been scored."""


@dataclass(frozen=True, slots=True)
class Spelled:
    """A conversation in the tokens that the server would feed."""

    tokens: npt.NDArray[np.int32]
    counted: npt.NDArray[np.bool_]
    """Whether the model is asked for the token: not for labels, nor for what comes first."""

    @property
    def asked(self) -> npt.NDArray[np.int32]:
        """The tokens that are counted."""
        return self.tokens[self.counted]


def spell(prompts: PromptBuilder, conversation: Conversation) -> Spelled:
    """A conversation from its first turn to its last, the first speaker as the user."""
    turns = enumerate(conversation.turns)
    return spell_turns(prompts, ((index % 2 == 1, turn, True) for index, turn in turns))


def spell_turns(prompts: PromptBuilder, turns: Iterable[tuple[bool, str, bool]]) -> Spelled:
    """Turns one after the other: whether the assistant speaks, the words, whether they count."""
    template = prompts.template
    labels = [prompts.tokens(label) for label in (template.user, template.assistant)]
    tokens = list(prompts.start)
    counted = [False] * len(tokens)
    for own, turn, counts in turns:
        label = labels[own]
        asked = (*prompts.body(template.words(turn)), *prompts.separator)
        tokens += (*label, *asked)
        counted += [False] * len(label) + [counts] * len(asked)
    if counted and counted[0]:
        raise EvaluationError(
            "This model's template has no label before a turn, so nothing predicts the first word."
        )
    return Spelled(np.array(tokens, np.int32), np.array(counted))


@dataclass(slots=True)
class Score:
    """Sums over a set of conversations."""

    bits: float = 0.0
    bytes: int = 0  # of text, in UTF-8
    words: int = 0  # divided by white space
    turns: int = 0
    conversations: int = 0

    def add(self, other: Score) -> None:
        """Add the sums of `other`."""
        self.bits += other.bits
        self.bytes += other.bytes
        self.words += other.words
        self.turns += other.turns
        self.conversations += other.conversations

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte of text and end of turn (one byte each)."""
        return self.bits / (self.bytes + self.turns)

    @property
    def word_perplexity(self) -> float:
        """Perplexity a word, the end of a turn counting as one."""
        return float(2 ** (self.bits / (self.words + self.turns)))

    def as_row(self) -> dict[str, Any]:
        """The score as JSON; `bits_per_text_byte` does not count ends of turns as bytes."""
        return {
            "bits_per_byte": round(self.bits_per_byte, 5),
            "bits_per_text_byte": round(self.bits / self.bytes, 5),
            "word_perplexity": round(self.word_perplexity, 2),
            "conversations": self.conversations,
            "turns": self.turns,
            "bytes": self.bytes,
        }


def tally(conversations: Iterable[Conversation], bits: Iterable[float]) -> dict[str, Score]:
    """Scores of each source by name, and of all together as the last one, "all".

    A source with parts of its own, as Topical-Chat's test_freq, is named `source/part`.

    Raises:
        EvaluationError: a conversation's bits are not a number.
    """
    scores: dict[str, Score] = defaultdict(Score)
    for conversation, sum_ in zip(conversations, bits, strict=True):
        if not math.isfinite(sum_):
            raise EvaluationError(
                "The model gave a probability that is not a number. Its weights are broken, or too "
                "large for this format."
            )
        turns = conversation.turns
        score = Score(
            sum_,
            sum(len(turn.encode("utf-8", "replace")) for turn in turns),
            sum(len(turn.split()) for turn in turns),
            len(turns),
            1,
        )
        scores[row_name(conversation)].add(score)
        scores[ALL].add(score)
    return {name: scores[name] for name in sorted(scores, key=lambda name: (name == ALL, name))}


def row_name(conversation: Conversation) -> str:
    """Its source, and its part if the source is reported by parts."""
    has_parts = conversation.source == "topical-chat" and conversation.sub
    name = f"{conversation.source}/{conversation.sub}" if has_parts else conversation.source
    return name or "no source named"


def by_length(texts: Sequence[Spelled]) -> list[int]:
    """Indices of `texts`, the longest first."""
    return sorted(range(len(texts)), key=lambda index: -len(texts[index].tokens))
