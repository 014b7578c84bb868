"""The tokenizer inside a model file.

Hugging Face BPE goes in whole (`tokenizer.huggingface.json`), followed by the token and merge
lists that llama.cpp reads instead. The RWKV World vocabulary goes in as llama.cpp keeps it: the
model name "rwkv" and one escaped text a token.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lambda_inference.errors import ModelCorrupt

JSON_KEY = "tokenizer.huggingface.json"
MODEL_KEY = "tokenizer.ggml.model"
TOKENS_KEY = "tokenizer.ggml.tokens"
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5  # gguf.TokenType
_END = "<|endoftext|>"


@dataclass(frozen=True)
class Vocabulary:
    """Metadata entries of a tokenizer, in the order in which they are written."""

    json: str | None
    model: str
    tokens: Sequence[str]
    types: Sequence[int]
    merges: Sequence[str]
    end: int | None

    def control(self, text: str) -> int | None:
        """The special token that is this text, if there is one."""
        for number, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True)):
            if kind == _CONTROL and token == text:
                return number
        return None


def bpe_vocabulary(source: str, rows: int) -> Vocabulary:
    """From the text of a `tokenizer.json`, padded to the embedding's number of rows.

    Raises:
        ModelCorrupt: not a BPE, or more tokens than the embedding has rows.
    """
    try:
        document: dict[str, Any] = json.loads(source)
        vocab: dict[str, int] = document["model"]["vocab"]
        merges = [m if isinstance(m, str) else " ".join(m) for m in document["model"]["merges"]]
        added = {int(e["id"]): str(e["content"]) for e in document.get("added_tokens", [])}
    except (ValueError, KeyError, TypeError) as error:
        raise ModelCorrupt(f"The tokenizer is not a Hugging Face BPE ({error}).") from error
    tokens = {number: text for text, number in vocab.items()} | added
    if max(tokens, default=0) >= rows:
        raise ModelCorrupt(
            f"The tokenizer has the token {max(tokens)}, but the model only {rows} rows; "
            "they do not belong together."
        )
    texts = [tokens.get(i, f"[PAD{i}]") for i in range(rows)]
    types = [
        _UNUSED if i not in tokens else _CONTROL if i in added else _NORMAL for i in range(rows)
    ]
    end = next((number for number, text in added.items() if text == _END), None)
    return Vocabulary(source, "gpt2", texts, types, merges, end)


def world_vocabulary(source: str, rows: int) -> Vocabulary:
    """From the published text file: a line is an id, a Python literal, a length in bytes.

    Raises:
        ModelCorrupt: a line does not parse, or there are more tokens than rows.
    """
    tokens: dict[int, str] = {0: "<s>"}
    for line in source.split("\n"):
        if not line.strip():
            continue
        try:
            number, rest = line.strip().split(" ", 1)
            value = ast.literal_eval(rest.rsplit(" ", 1)[0])
        except (ValueError, SyntaxError) as error:
            raise ModelCorrupt(f"The vocabulary has a bad line ({error}).") from error
        data = value.encode() if isinstance(value, str) else bytes(value)
        tokens[int(number)] = escape(data)
    if max(tokens) >= rows:
        raise ModelCorrupt(
            f"The vocabulary has the token {max(tokens)}, but the model only {rows} rows; "
            "they do not belong together."
        )
    texts = [tokens.get(i, f"[PAD{i}]") for i in range(rows)]
    types = [_UNUSED if i not in tokens else _CONTROL if i == 0 else _NORMAL for i in range(rows)]
    return Vocabulary(None, "rwkv", texts, types, (), 0)


def escape(data: bytes) -> str:
    """A token's bytes as printable ASCII: Python's bytes literal without its quotes."""
    return repr(data)[2:-1]


def unescape(text: str) -> bytes:
    """The bytes that `escape` wrote."""
    if "\\" not in text:
        return text.encode()
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def world_tokens(metadata: Mapping[str, object]) -> dict[int, bytes]:
    """Id -> bytes from the metadata of a file with the World vocabulary.

    Raises:
        ModelCorrupt: the list of tokens is missing or cannot be unescaped.
    """
    tokens = metadata.get(TOKENS_KEY)
    if metadata.get(MODEL_KEY) != "rwkv" or not isinstance(tokens, list):
        raise ModelCorrupt("The model file has no RWKV World vocabulary.")
    types = metadata.get("tokenizer.ggml.token_type")
    unused = {
        i for i, kind in enumerate(types if isinstance(types, list) else []) if kind != _NORMAL
    }
    try:
        return {i: unescape(str(text)) for i, text in enumerate(tokens) if i not in unused and i}
    except (UnicodeError, ValueError) as error:
        raise ModelCorrupt(f"The vocabulary holds a bad token ({error}).") from error
