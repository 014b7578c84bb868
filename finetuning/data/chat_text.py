"""How one model writes conversations, as tokens: its vocabulary and its template together.

The tokens are those that the model server makes of the same conversation: its own tokenizers and
its own `PromptBuilder` make them here. A template belongs to a model. Ours and RWKV-4 Pile's, which
never saw one, get `User:` and `Friend:`; World and G1 models know `User:` and `Assistant:`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetuning.errors import CheckpointError
from lambda_inference.errors import ModelCorrupt
from lambda_inference.gguf.chat_template import ChatTemplate
from lambda_inference.talk.prompt import PromptBuilder
from lambda_inference.talk.tokenizer import BpeTokenizer, WorldTokenizer

BPE_TEMPLATE = ChatTemplate(assistant="Friend:")
WORLD_TEMPLATE = ChatTemplate()


@dataclass(frozen=True, slots=True)
class Marks:
    """Ids of what stands around the words of turns."""

    user: tuple[int, ...]
    assistant: tuple[int, ...]
    separator: tuple[int, ...]
    end_of_text: int | None


class ChatText:
    """Turns to token ids, and the ids of what stands around them."""

    def __init__(self, template: ChatTemplate, tokenizer: BpeTokenizer | WorldTokenizer) -> None:
        self.template = template
        self.tokenizer = tokenizer
        builder = PromptBuilder(template, tokenizer)
        self.marks = Marks(
            builder.tokens(template.user),
            builder.tokens(template.assistant),
            builder.separator,
            builder.end_of_text,
        )

    def encode(self, turns: Sequence[str]) -> list[list[int]]:
        """Ids of each turn's words, leading space included, without label and separator."""
        return self.tokenizer.encode_many([f" {self.template.words(turn)}" for turn in turns])


def family_template(vocabulary: Path) -> ChatTemplate:
    """The template of models with this vocabulary, where a model's own is not known."""
    return BPE_TEMPLATE if vocabulary.suffix == ".json" else WORLD_TEMPLATE


def read_chat_text(vocabulary: Path, template: ChatTemplate | None = None) -> ChatText:
    """From a `tokenizer.json` or the RWKV World vocabulary's text file.

    Raises:
        CheckpointError: missing, or neither of the two.
    """
    template = family_template(vocabulary) if template is None else template
    try:
        source = vocabulary.read_text("utf-8")
        if vocabulary.suffix == ".json":
            return ChatText(template, BpeTokenizer(source, reserved=template.texts))
        return ChatText(template, WorldTokenizer.from_vocabulary(source))
    except FileNotFoundError:
        raise CheckpointError(f"There is no tokenizer {vocabulary}.") from None
    except (OSError, UnicodeDecodeError, ModelCorrupt) as error:
        raise CheckpointError(
            f"{vocabulary} cannot be read as a tokenizer ({error}). Give a Hugging Face "
            "tokenizer.json or the RWKV World vocabulary (rwkv_vocab_v20230424.txt)."
        ) from error
