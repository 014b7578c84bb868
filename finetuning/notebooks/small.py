"""What the notebooks run on in the automatic test: made-up models and conversations, in seconds."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from finetuning.data.sample import sample_conversations
from finetuning.data.tokenizer import train_tokenizer
from finetuning.models.rwkv4 import RWKV4, RWKV4Shape
from finetuning.models.rwkv4 import initialize as initialize_rwkv4
from finetuning.models.rwkv7 import RWKV7, RWKV7Shape
from finetuning.models.rwkv7 import initialize as initialize_rwkv7

_LAYERS, _WIDTH = 2, 64


def rwkv4(folder: Path) -> tuple[Path, Path]:
    """A random RWKV-4 with a byte-level BPE: (checkpoint, tokenizer), as the hub has them."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "20B_tokenizer.json"
    texts = (one["content"] for talk in sample_conversations(50) for one in talk)
    tokenizer = train_tokenizer(texts, 320)
    tokenizer.save(str(vocabulary))
    model = RWKV4(RWKV4Shape(_LAYERS, _WIDTH, tokenizer.get_vocab_size()))
    initialize_rwkv4(model, seed=0)
    return _save(model, folder / "RWKV-4-small.safetensors"), vocabulary


def rwkv7(folder: Path) -> tuple[Path, Path]:
    """A random RWKV-7 with a vocabulary in World's format, as `rwkv4`."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "rwkv_vocab_v20230424.txt"
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [b"\n\n", b"User", b"Assistant", b" the", b" and", b" in"]
    lines = (f"{number} {token!r} {len(token)}\n" for number, token in enumerate(tokens, 1))
    vocabulary.write_text("".join(lines), "utf-8")
    model = RWKV7(RWKV7Shape(_LAYERS, _WIDTH, len(tokens) + 1))
    initialize_rwkv7(model, seed=0)
    return _save(model, folder / "RWKV-7-small.safetensors"), vocabulary


def topical_chat(folder: Path) -> None:
    """The three files of Topical-Chat that the notebooks use, in its own format."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, count) in enumerate((("train", 24), ("valid_freq", 6), ("test_freq", 6))):
        talks = {
            f"t_{number}": {
                "content": [
                    {"message": one["content"], "agent": f"agent_{1 + turn % 2}"}
                    for turn, one in enumerate(talk)
                ]
            }
            for number, talk in enumerate(sample_conversations(count, seed=seed))
        }
        (folder / f"{name}.json").write_text(json.dumps(talks), "utf-8")


def talks(folder: Path) -> Path:
    """A folder of talks, in their form: made-up conversations, and a pattern."""
    (folder / "daily").mkdir(parents=True, exist_ok=True)
    (folder / "slots.txt").write_text("thing: soup, bread, tea, snow\n", "utf-8")
    written = [
        f"U: {talk[0]['content']}\nF: {talk[1]['content']}\n"
        for talk in sample_conversations(200, seed=3)
    ]
    written.append("U: i like {thing} | {thing} is nice\nF: You like {thing}.\n")
    (folder / "daily/daily.txt").write_text("\n".join(written), "utf-8")
    return folder


def discord_export(path: Path) -> None:
    """A channel as DiscordChatExporter writes it: Ann asks, Bob answers, and speaks like a pirate.

    Both names stand in messages too, to be taken out.
    """
    people = {"user": ("1", "Ann"), "assistant": ("2", "Bob")}
    messages: list[dict[str, Any]] = []
    for number, talk in enumerate(sample_conversations(24)):
        day = date(2024, 1, 1) + timedelta(days=number)
        for minute, one in enumerate(talk):
            person, name = people[one["role"]]
            said = one["content"] if name == "Ann" else f"Arr, {one['content']}"
            messages.append(
                {
                    "id": str(len(messages)),
                    "type": "Default",
                    "timestamp": f"{day.isoformat()}T12:{minute:02}:00+00:00",
                    "content": f"Bob, {said}" if name == "Ann" and not minute else said,
                    "author": {"id": person, "name": name, "nickname": name, "isBot": False},
                    "mentions": [],
                }
            )
    head = {"guild": {"id": "5", "name": "home"}, "channel": {"id": "6", "name": "general"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**head, "messages": messages}, indent=1), "utf-8")


@torch.no_grad()
def _save(model: RWKV4 | RWKV7, path: Path) -> Path:
    """Shake the values, so that no half layer is shut as initialization leaves it, and write."""
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.05)
    save_file(model.state_dict(), path)
    return path
