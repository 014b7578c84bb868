"""From conversations to rows of a fixed length, differently shuffled every epoch.

A conversation is cut into pieces at turn boundaries, each no longer than a row; pieces are then
laid into rows. A row starts from an empty state, so a long conversation's later pieces look to
the model like a window that was trimmed, which is what the bot does to long histories.

A row holds a token as its id, or, where it is read but not to be learnt, as -2 - id; padding is -1.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import numpy.typing as npt

from finetuning.data.chat_text import ChatText, Marks
from finetuning.data.corpus import Conversation

Tokens = npt.NDArray[np.uint16]
Row = npt.NDArray[np.int32]
Learn = Literal["all", "replies"]
"""What is learnt: every token, or what the model itself must say (its turns and their ends)."""

IGNORED = -1
"""Target of a position without loss (padding)."""

MIXTURE: Mapping[str, float] = {"personality-chat": 0.25, "chitchat": 2.0, "topical-chat": 2.0}
"""How often an epoch uses a conversation of a source; 1 for the sources not named."""

_ENCODE_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class TokenizedConversation:
    """Tokens of each turn (text only), and the weight of its source."""

    turns: tuple[Tokens, ...]
    weight: float
    roles: bool = False
    people: bool = False
    """Whether both speakers are people: the user's label stands before every turn."""


Draw = Callable[[np.random.Generator], Iterable[Conversation]]
"""Conversations of an epoch that are drawn anew for each."""


def tokenize(
    conversations: Iterable[Conversation],
    text: ChatText,
    mixture: Mapping[str, float] = MIXTURE,
    people: Collection[str] = (),
) -> list[TokenizedConversation]:
    """Encode conversations. `people`: sources whose speakers are both people."""
    conversations = list(conversations)
    texts = [turn for conversation in conversations for turn in conversation.turns]
    encoded: list[Tokens] = []
    for start in range(0, len(texts), _ENCODE_AT_ONCE):
        chunk = text.encode(texts[start : start + _ENCODE_AT_ONCE])
        encoded.extend(np.array(ids, dtype=np.uint16) for ids in chunk)
    result, at = [], 0
    for one in conversations:
        turns = tuple(encoded[at : at + len(one.turns)])
        at += len(turns)
        result.append(
            TokenizedConversation(
                turns, mixture.get(one.source, 1.0), one.roles, one.source in people
            )
        )
    return result


class Packer:
    """Makes the rows of any epoch: a pure function of data, seed and epoch number."""

    def __init__(
        self,
        conversations: Sequence[TokenizedConversation],
        text: ChatText,
        row_length: int,
        *,
        seed: int = 0,
        learn: Learn = "all",
        alone: bool = False,
        draw: Draw | None = None,
    ) -> None:
        """Set up the packing.

        Args:
            row_length: tokens that the model reads in a row; a row holds one more, to predict.
            learn: what of a conversation is learnt.
            alone: each piece has a row to itself and begins as the server begins, with the
                end-of-text token. A learnt state needs that: it stands at a conversation's start.
            draw: gives more conversations, others each epoch.
        """
        self._conversations = conversations
        self._draw = draw
        self._text = text
        self._marks = text.marks
        self._room = row_length + 1
        self._seed = seed
        self._learn = learn
        self._alone = alone

    def epoch(self, number: int) -> npt.NDArray[np.int32]:
        """Rows of epoch `number`: int32 [rows, row_length + 1], padded with IGNORED."""
        random = np.random.default_rng([self._seed, number])
        conversations = chain(self._conversations, self._new(random))
        pieces = [piece for one in conversations for piece in self._drawn(one, random)]
        order = random.permutation(len(pieces))
        drawn = [pieces[i] for i in order]
        rows = drawn if self._alone else lay_into_rows(drawn, self._room)
        packed = np.full((len(rows), self._room), IGNORED, dtype=np.int32)
        for row, tokens in zip(packed, rows, strict=True):
            row[: len(tokens)] = tokens
        return packed[random.permutation(len(packed))]

    def too_long(self) -> int:
        """Turns that are longer than a row, and lose their ends."""
        marks, room = self._marks, self._room - int(self._alone)
        around = max(len(marks.user), len(marks.assistant)) + len(marks.separator)
        return sum(len(turn) + around > room for one in self._conversations for turn in one.turns)

    def _new(self, random: np.random.Generator) -> list[TokenizedConversation]:
        return [] if self._draw is None else tokenize(self._draw(random), self._text, {})

    def _drawn(
        self, conversation: TokenizedConversation, random: np.random.Generator
    ) -> Iterator[Row]:
        """The pieces of a conversation as often as its weight says, on average.

        Between two equals, the first turn is left out half the time, so that the model learns
        both roles.
        """
        times = int(conversation.weight + random.random())
        equals = len(conversation.turns) > 2 and not conversation.roles
        for _ in range(times):
            swap = equals and random.random() < 0.5
            turns = conversation.turns[1:] if swap else conversation.turns
            yield from cut_into_pieces(
                turns, self._marks, self._room,
                learn=self._learn, opened=self._alone, people=conversation.people,
            )  # fmt: skip


def cut_into_pieces(
    turns: Sequence[Tokens],
    marks: Marks,
    room: int,
    *,
    learn: Learn = "all",
    opened: bool = False,
    people: bool = False,
) -> Iterator[Row]:
    """Cut a conversation at turn boundaries into pieces of at most `room` tokens.

    The last piece ends with the end-of-text token if there is room; with `opened`, each piece
    begins with it instead. A single turn longer than a row loses its end.
    """
    end = [] if marks.end_of_text is None else [marks.end_of_text]
    opening = _unlearnt(end) if opened else []
    piece = list(opening)
    for index, words in enumerate(turns):
        own = index % 2 == 1 and not people
        label = marks.assistant if own else marks.user
        said = words.tolist()[: room - len(opening) - len(label) - len(marks.separator)]
        turn = [*label, *said, *marks.separator]
        if learn == "replies":
            turn = [*_unlearnt(label), *turn[len(label) :]] if own else _unlearnt(turn)
        if len(piece) + len(turn) > room:
            yield np.array(piece, dtype=np.int32)
            piece = list(opening)
        piece += turn
    if not opened and len(piece) < room:
        piece += _unlearnt(end) if learn == "replies" else end
    if len(piece) > len(opening):
        yield np.array(piece, dtype=np.int32)


def _unlearnt(tokens: Iterable[int]) -> list[int]:
    return [-2 - token for token in tokens]


def lay_into_rows(pieces: Sequence[Row], room: int) -> list[Row]:
    """Best fit: each piece goes into the fullest open row that still holds it."""
    contents: list[list[Row]] = []
    open_rows: list[tuple[int, int]] = []  # (room left, row), sorted
    for piece in pieces:
        at = bisect_right(open_rows, (len(piece), -1))
        if at < len(open_rows):
            left, row = open_rows.pop(at)
        else:
            left, row = room, len(contents)
            contents.append([])
        contents[row].append(piece)
        left -= len(piece)
        if left > 0:
            insort(open_rows, (left, row))
    return [np.concatenate(row) for row in contents]


def batches(
    rows: npt.NDArray[np.int32], batch_size: int, *, start: int = 0
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Inputs and targets [batch, length] of whole batches, from row `start` on.

    Targets without loss are negative.
    """
    for at in range(start, len(rows) - batch_size + 1, batch_size):
        block = rows[at : at + batch_size].astype(np.int64)
        read = np.where(block < IGNORED, -2 - block, np.maximum(block, 0))
        yield read[:, :-1], block[:, 1:]
