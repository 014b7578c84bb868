"""Synthetic models that can be talked to, for measurements through the real server.

    python -m benchmarks.chat_models FOLDER NAME...

NAME is a format (Q8_0, Q4_0) or `rwkv` for the checkpoint that the `rwkv` package reads. Weights
are random, shapes those of RWKV-4 430M. The vocabulary is a byte-level BPE with as many tokens as
the weights have rows, so that reading it at a cold start costs what a real one's costs: the shipped
model's, grown by merges of random pairs. What such a model says is noise.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SIZE = "rwkv4-430m"
REFERENCE = "rwkv"
_ROOT = Path(__file__).parents[1]
_SHIPPED = _ROOT / "lambda_inference" / "models" / "pocket"
_LONGEST = 16  # letters of a made-up token


def chat_model(folder: Path, name: str) -> Path:
    """The model file of that format (for `rwkv` the folder), made if it is not there.

    Made in a process of its own: numpy's libraries stay out of this one, and so can leave the page
    cache before a cold start.
    """
    path = _place(folder, name)
    if not path.exists():
        command = [sys.executable, "-m", "benchmarks.chat_models", str(folder), name]
        subprocess.run(command, cwd=_ROOT, check=True)  # noqa: S603
    return path


def _place(folder: Path, name: str) -> Path:
    return folder / (f"{SIZE}-chat" if name == REFERENCE else f"{SIZE}-chat.{name}.gguf")


def grown_tokenizer(source: str, rows: int) -> str:
    """A `tokenizer.json` with `rows` tokens, the same each time."""
    document: dict[str, Any] = json.loads(source)
    vocabulary: dict[str, int] = document["model"]["vocab"]
    merges: list[list[str]] = document["model"]["merges"]
    added = {entry["content"] for entry in document["added_tokens"]}
    # Nothing with a line break: a blank line would end a reply early.
    parts = [text for text in vocabulary if text not in added and "Ċ" not in text]
    rng = random.Random(1)  # noqa: S311
    while len(vocabulary) < rows:
        left, right = rng.choice(parts), rng.choice(parts)
        text = left + right
        if text not in vocabulary and len(text) <= _LONGEST and not right.startswith("Ġ"):
            vocabulary[text] = len(vocabulary)
            merges.append([left, right])
            parts.append(text)
    return json.dumps(document, ensure_ascii=False)


def write(folder: Path, names: Iterable[str]) -> None:
    """Write the models that are named."""
    from benchmarks.synthetic import SIZES, random_weights, write_checkpoint
    from lambda_inference.gguf.chat_template import template_from
    from lambda_inference.gguf.convert import write as write_gguf
    from lambda_inference.gguf.layout import shape_of
    from lambda_inference.gguf.vocabulary import bpe_vocabulary

    size = SIZES[SIZE]
    tokenizer = grown_tokenizer((_SHIPPED / "tokenizer.json").read_text("utf-8"), size.vocab)
    template = json.loads((_SHIPPED / "config.json").read_text("utf-8"))["template"]
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        place = _place(folder, name)
        if name == REFERENCE:
            part = place.with_name(place.name + ".part")
            part.mkdir(exist_ok=True)
            config = {"name": SIZE, "architecture": "rwkv4", "template": template}
            (part / "config.json").write_text(json.dumps(config), "utf-8")
            (part / "tokenizer.json").write_text(tokenizer, "utf-8")
            write_checkpoint(part / "model.pth", size)
            part.rename(place)
            continue
        weights, pack = random_weights(size)
        write_gguf(
            place, weights, shape_of(weights), bpe_vocabulary(tokenizer, size.vocab),
            quantization=name, name=SIZE, pack=pack,  # type: ignore[arg-type]
            template=template_from(template, "the shipped model"),
        )  # fmt: skip


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2:])
