"""Text from a model: replies in a conversation, as the server makes them, only slower.

python -m finetuning.evaluation.generate lambda_inference/models/pocket "hi friend" "how are you?"
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from tokenizers import Tokenizer
from torch import Tensor

from finetuning.data.tokenizer import encode_turns, turn_tokens
from finetuning.errors import FinetuneError
from finetuning.models.rwkv7 import RWKV7, LayerState
from finetuning.training.export import load_folder


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn."""

    temperature: float = 0.8
    top_p: float = 0.9
    longest_reply: int = 80  # tokens
    seed: int = 0


class Conversation:
    """A conversation with a model: say something, get a reply."""

    def __init__(self, model: RWKV7, tokenizer: Tokenizer, sampling: Sampling) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._template = turn_tokens(tokenizer)
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)
        self._state: list[LayerState] = model.new_state(1)

    @torch.no_grad()
    def say(self, text: str) -> str:
        """Add a turn of the user and return the model's reply, sampled until its turn ends."""
        template = self._template
        (words,) = encode_turns(self._tokenizer, [text])
        logits = self._read([template.user, *words, template.separator, template.friend])
        reply: list[int] = []
        while len(reply) < self._sampling.longest_reply:
            token = self._draw(logits, first=not reply)
            if token in (template.separator, template.end_of_text, template.user, template.friend):
                break
            reply.append(token)
            logits = self._read([token])
        self._read([template.separator])
        text = self._tokenizer.decode(reply, skip_special_tokens=False)
        return text.strip()

    def _read(self, tokens: Sequence[int]) -> Tensor:
        """Feed tokens one by one; logits after the last one, [vocabulary]."""
        for token in tokens:
            hidden, self._state = self._model.hidden(torch.tensor([[token]]), self._state)
        return hidden[0, -1] @ self._model.head.weight.t()

    def _draw(self, logits: Tensor, *, first: bool) -> int:
        """A token from the smallest set that holds `top_p` of the probability."""
        if first:  # an empty reply is no reply
            logits[[self._template.separator, self._template.end_of_text]] = -torch.inf
        chances, order = (logits / self._sampling.temperature).softmax(-1).sort(descending=True)
        chances[chances.cumsum(-1) - chances > self._sampling.top_p] = 0
        return int(order[torch.multinomial(chances, 1, generator=self._generator)])


def converse(
    model: RWKV7, tokenizer: Tokenizer, lines: Iterable[str], sampling: Sampling
) -> list[tuple[str, str]]:
    """What the user says, and the model's reply to each."""
    conversation = Conversation(model, tokenizer, sampling)
    return [(line, conversation.say(line)) for line in lines]


def command(
    model_folder: Annotated[Path, typer.Argument(help="Folder with model.safetensors.")],
    lines: Annotated[list[str], typer.Argument(help="What the user says, turn by turn.")],
    temperature: float = 0.8,
    top_p: float = 0.9,
    seed: int = 0,
) -> None:
    """Print a conversation: the given lines, and the model's reply to each."""
    try:
        model, tokenizer = load_folder(model_folder)
    except FinetuneError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    sampling = Sampling(temperature=temperature, top_p=top_p, seed=seed)
    for line, reply in converse(model, tokenizer, lines, sampling):
        typer.echo(f"User: {line}\nFriend: {reply}")


if __name__ == "__main__":
    typer.run(command)
