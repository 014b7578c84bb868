"""From conversations to rows of a fixed length, differently shuffled every epoch.

A conversation is cut into pieces at turn boundaries, each no longer than a row; pieces are then
laid into rows. A row starts from an empty state, so a long conversation's later pieces look to
the model like a window that was trimmed, which is what the bot does to long histories.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from finetuning.data.corpus import Conversation
from finetuning.data.tokenizer import TurnTokens, encode_turns, turn_tokens

Tokens = npt.NDArray[np.uint16]
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


def tokenize(
    conversations: Iterable[Conversation],
    tokenizer: Tokenizer,
    mixture: Mapping[str, float] = MIXTURE,
) -> list[TokenizedConversation]:
    """Encode conversations once, for all epochs."""
    conversations = list(conversations)
    texts = [turn for conversation in conversations for turn in conversation.turns]
    encoded: list[Tokens] = []
    for start in range(0, len(texts), _ENCODE_AT_ONCE):
        chunk = encode_turns(tokenizer, texts[start : start + _ENCODE_AT_ONCE])
        encoded.extend(np.array(ids, dtype=np.uint16) for ids in chunk)
    result, at = [], 0
    for conversation in conversations:
        turns = tuple(encoded[at : at + len(conversation.turns)])
        at += len(turns)
        result.append(TokenizedConversation(turns, mixture.get(conversation.source, 1.0)))
    return result


class Packer:
    """Makes the rows of any epoch: a pure function of data, seed and epoch number."""

    def __init__(
        self,
        conversations: Sequence[TokenizedConversation],
        tokenizer: Tokenizer,
        row_length: int,
        *,
        seed: int = 0,
    ) -> None:
        """`row_length`: tokens that the model reads in a row; a row holds one more, to predict."""
        self._conversations = conversations
        self._template = turn_tokens(tokenizer)
        self._room = row_length + 1
        self._seed = seed

    def epoch(self, number: int) -> npt.NDArray[np.int32]:
        """Rows of epoch `number`: int32 [rows, row_length + 1], padded with IGNORED."""
        random = np.random.default_rng([self._seed, number])
        pieces = [
            piece
            for conversation in self._conversations
            for piece in self._drawn(conversation, random)
        ]
        order = random.permutation(len(pieces))
        rows = lay_into_rows([pieces[i] for i in order], self._room)
        packed = np.full((len(rows), self._room), IGNORED, dtype=np.int32)
        for row, tokens in zip(packed, rows, strict=True):
            row[: len(tokens)] = tokens
        return packed[random.permutation(len(packed))]

    def _drawn(
        self, conversation: TokenizedConversation, random: np.random.Generator
    ) -> Iterator[Tokens]:
        """The pieces of a conversation as often as its weight says, on average."""
        times = int(conversation.weight + random.random())
        for _ in range(times):
            swap = len(conversation.turns) > 2 and random.random() < 0.5
            turns = conversation.turns[1:] if swap else conversation.turns
            yield from cut_into_pieces(turns, self._template, self._room)


def cut_into_pieces(turns: Sequence[Tokens], template: TurnTokens, room: int) -> Iterator[Tokens]:
    """Cut a conversation at turn boundaries into pieces of at most `room` tokens.

    The last piece ends with the end-of-text token if there is room. A single turn longer than a
    row loses its end (the corpus has next to none).
    """
    piece: list[int] = []
    for index, text in enumerate(turns):
        label = template.user if index % 2 == 0 else template.friend
        turn = [label, *text.tolist()[: room - 2], template.separator]
        if len(piece) + len(turn) > room:
            yield np.array(piece, dtype=np.uint16)
            piece = []
        piece += turn
    if len(piece) < room:
        piece.append(template.end_of_text)
    if piece:
        yield np.array(piece, dtype=np.uint16)


def lay_into_rows(pieces: Sequence[Tokens], room: int) -> list[Tokens]:
    """Best fit: each piece goes into the fullest open row that still holds it."""
    contents: list[list[Tokens]] = []
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
    """Inputs and targets [batch, length] of whole batches, from row `start` on."""
    for at in range(start, len(rows) - batch_size + 1, batch_size):
        block = rows[at : at + batch_size].astype(np.int64)
        yield np.maximum(block[:, :-1], 0), block[:, 1:]
