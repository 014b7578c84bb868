r"""The byte-level BPE tokenizer of our own models, and how a conversation becomes tokens.

The text of a conversation is

    User: hello there\n\nFriend: hi! how are you?\n\n

with `<|endoftext|>` (id 0) between conversations. Labels and separator are one token each, so a
reply starts right after `Friend:` and ends at the token of the blank line. Every turn is encoded
by itself, with its leading space: the tokens of a prefix of turns are then a prefix of the tokens
of the conversation, which the server's state cache lives by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"
USER = "User:"
FRIEND = "Friend:"
SEPARATOR = "\n\n"
SPECIAL = (END_OF_TEXT, USER, FRIEND, SEPARATOR)


@dataclass(frozen=True, slots=True)
class TurnTokens:
    """Ids of the template's own tokens."""

    end_of_text: int
    user: int
    friend: int
    separator: int


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a byte-level BPE vocabulary of `vocab_size` from turns (without labels).

    All 256 bytes are in it, so any text round-trips; ids 0-3 are the template's tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((" " + text for text in texts), trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer for training text.

    Template tokens written out inside a turn ("User:") are then encoded as ordinary letters:
    nobody can end a turn, or speak for someone else, from within a message.
    """
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def turn_tokens(tokenizer: Tokenizer) -> TurnTokens:
    """Ids of the template's tokens in `tokenizer`; KeyError names one that it lacks."""
    ids = []
    for text in SPECIAL:
        token = tokenizer.token_to_id(text)
        if token is None:
            raise KeyError(f"the tokenizer has no token {text!r}")
        ids.append(token)
    return TurnTokens(*ids)


def encode_turns(tokenizer: Tokenizer, turns: Sequence[str]) -> list[list[int]]:
    """Ids of each turn's text, leading space included, without label and separator."""
    encoded = tokenizer.encode_batch([" " + turn for turn in turns], add_special_tokens=False)
    return [one.ids for one in encoded]
