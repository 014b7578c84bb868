"""A small tokenizer, model and corpus that all tests of training share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zstandard

pytest.importorskip("torch", reason="training needs torch")

from tokenizers import Tokenizer

from finetuning.data.chat_text import ChatText, read_chat_text
from finetuning.data.tokenizer import load_tokenizer, train_tokenizer
from finetuning.models.rwkv7 import RWKV7, RWKV7Shape, initialize

VOCABULARY = 320
TURNS = (
    ("hello there", "hi! how are you?", "good, and you?", "never better."),
    ("do you like music?", "yes, I play the violin.", "how nice"),
    ("what is your favourite food?", "soup. What about you?", "bread with butter", "me too"),
    ("it rains again", "stay inside then"),
)


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer((turn for turns in TURNS for turn in turns), VOCABULARY).save(str(path))
    return path


@pytest.fixture(scope="session")
def tokenizer(vocabulary: Path) -> Tokenizer:
    return load_tokenizer(vocabulary)


@pytest.fixture(scope="session")
def text(vocabulary: Path) -> ChatText:
    return read_chat_text(vocabulary)


@pytest.fixture
def model() -> RWKV7:
    """Two heads, three layers, and weights that are zero nowhere."""
    import torch

    model = RWKV7(RWKV7Shape(layers=3, width=128, vocab_size=VOCABULARY))
    initialize(model, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return model.eval()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A compressed file of 120 short conversations."""
    lines = [
        json.dumps({"source": "test", "turns": [f"{turn} {index}" for turn in turns]})
        for index in range(30)
        for turns in TURNS
    ]
    path = tmp_path / "corpus.jsonl.zst"
    path.write_bytes(zstandard.compress("\n".join(lines).encode()))
    return path
