"""How well a model predicts conversations it never saw, in bits per byte.

Counted are the bits of every turn's text and of the token that ends it, with the whole history
of the conversation given; labels and the end of the conversation are left out. Bytes are those
of the text in UTF-8 plus one for each end of a turn. So models with different tokenizers
compare, which the perplexity of a token does not allow.

    python -m finetuning.evaluate lambda_inference/models/pocket --data corpus/test.jsonl.zst
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from finetuning.data.corpus import BadLines, Conversation, read_conversations
from finetuning.data.packing import IGNORED
from finetuning.data.tokenizer import TurnTokens, encode_turns, turn_tokens
from finetuning.errors import FinetuneError
from finetuning.export import load_folder
from finetuning.loss import head_loss
from finetuning.rwkv7 import CHUNK, RWKV7

_TOKENS_AT_ONCE = 16_384


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

    def as_row(self, name: str) -> dict[str, Any]:
        """The score as JSON; `bits_per_text_byte` does not count ends of turns as bytes."""
        return {
            "name": name,
            "bits_per_byte": round(self.bits_per_byte, 4),
            "bits_per_text_byte": round(self.bits / self.bytes, 4),
            "word_perplexity": round(self.word_perplexity, 2),
            "conversations": self.conversations,
            "turns": self.turns,
            "bytes": self.bytes,
        }


def evaluate(
    model: RWKV7, tokenizer: Tokenizer, conversations: Sequence[Conversation]
) -> dict[str, Score]:
    """Scores of each source, and of all together under "all".

    A source with parts of its own, as Topical-Chat's test_freq, is named `source/part`.
    """
    scores: dict[str, Score] = defaultdict(Score)
    for chunk in _by_length(conversations, tokenizer):
        for conversation, bits in zip(*_bits(model, turn_tokens(tokenizer), chunk), strict=True):
            score = Score(
                bits,
                sum(len(turn.encode()) for turn in conversation.turns),
                sum(len(turn.split()) for turn in conversation.turns),
                len(conversation.turns),
                1,
            )
            scores[_row_name(conversation)].add(score)
            scores["all"].add(score)
    return dict(scores)


def _row_name(conversation: Conversation) -> str:
    has_parts = conversation.source == "topical-chat" and conversation.sub
    return f"{conversation.source}/{conversation.sub}" if has_parts else conversation.source


_Encoded = tuple[Conversation, list[list[int]]]


def _by_length(
    conversations: Iterable[Conversation], tokenizer: Tokenizer
) -> Iterator[list[_Encoded]]:
    """Chunks of conversations of like length, so that little is padding."""
    encoded = [(one, encode_turns(tokenizer, one.turns)) for one in conversations]
    encoded.sort(key=lambda pair: sum(map(len, pair[1])) + 2 * len(pair[1]))
    chunk: list[_Encoded] = []
    for pair in encoded:
        length = sum(map(len, pair[1])) + 2 * len(pair[1])
        if chunk and length * (len(chunk) + 1) > _TOKENS_AT_ONCE:
            yield chunk
            chunk = []
        chunk.append(pair)
    if chunk:
        yield chunk


@torch.no_grad()
def _bits(
    model: RWKV7, template: TurnTokens, chunk: Sequence[_Encoded]
) -> tuple[list[Conversation], list[float]]:
    sequences = [_tokens_and_targets(turns, template) for _, turns in chunk]
    longest = max(len(tokens) for tokens, _ in sequences)
    width = math.ceil(longest / CHUNK) * CHUNK
    inputs = torch.zeros(len(chunk), width, dtype=torch.int64)
    targets = torch.full((len(chunk), width), IGNORED)
    for row, (tokens, wanted) in enumerate(sequences):
        inputs[row, : len(tokens)] = torch.tensor(tokens)
        targets[row, : len(wanted)] = torch.tensor(wanted)
    device = model.emb.weight.device
    hidden, _ = model.hidden(inputs.to(device))
    nats = [
        float(head_loss(one.unsqueeze(0), model.head.weight, wanted.unsqueeze(0)))
        for one, wanted in zip(hidden, targets.to(device), strict=True)
    ]
    return [conversation for conversation, _ in chunk], [sum_ / math.log(2) for sum_ in nats]


def _tokens_and_targets(
    turns: Sequence[Sequence[int]], template: TurnTokens
) -> tuple[list[int], list[int]]:
    """What the model reads, and what it is asked after each token (labels are not asked)."""
    tokens: list[int] = []
    targets: list[int] = []
    for index, text in enumerate(turns):
        label = template.user if index % 2 == 0 else template.friend
        tokens += [label, *text, template.separator]
        targets += [*text, template.separator, IGNORED]
    return tokens, targets


def command(
    model_folder: Annotated[Path, typer.Argument(help="Folder with model.safetensors.")],
    data: Annotated[list[Path], typer.Option(help="Held-out conversations; may be repeated.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    limit: Annotated[int, typer.Option(help="Use every n-th conversation only.")] = 1,
) -> None:
    """Bits per byte of a model on conversations."""
    try:
        model, tokenizer = load_folder(model_folder)
        rows: list[dict[str, Any]] = []
        for path in data:
            bad = BadLines()
            conversations = list(read_conversations(path, bad))[::limit]
            if bad:
                typer.echo(bad.report(path), err=True)
            scores = evaluate(model, tokenizer, conversations)
            rows += [{"file": path.name, **scores[name].as_row(name)} for name in sorted(scores)]
    except FinetuneError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps({"model": model_folder.name, "rows": rows}, indent=2))
        return
    table = Table("file", "conversations of", "bits per byte", "word perplexity", "turns")
    for row in rows:
        table.add_row(
            row["file"], row["name"], f"{row['bits_per_byte']:.4f}",
            f"{row['word_perplexity']:.1f}", f"{row['turns']:,}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    typer.run(command)
