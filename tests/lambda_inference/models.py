"""A tiny random chat model in every form that the server takes."""

from __future__ import annotations

import json
from pathlib import Path

from tests.lambda_inference.checkpoints import rwkv7, save

TEMPLATE = {
    "user": "User:",
    "assistant": "Friend:",
    "separator": "\n\n",
    "end_of_text": "<|endoftext|>",
}


def train_tokenizer(path: Path, vocab: int = 400) -> int:
    """A byte-level BPE of a few words, with the template's fixed texts as special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[TEMPLATE[k] for k in ("end_of_text", "user", "assistant", "separator")],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = ["hello there, how are you doing today?", "i am fine. what music do you like?"] * 9
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.save(str(path))
    return int(tokenizer.get_vocab_size())


def write_folder(folder: Path) -> Path:
    """A model folder as the trainer writes it: 2 layers of 64."""
    folder.mkdir(parents=True)
    vocab = train_tokenizer(folder / "tokenizer.json")
    weights = rwkv7(layers=2, width=64, vocab=vocab, head=32, ranks=(8, 8, 8, 16))
    save(weights, folder / "model.safetensors")
    config = {
        "name": "tiny",
        "architecture": "rwkv7",
        "layers": 2,
        "width": 64,
        "vocab_size": vocab,
        "head_size": 32,
        "context_length": 512,
        "template": TEMPLATE,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder
