"""The model that a fine-tuning starts from: weights, vocabulary and template, wherever they lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finetuning.data.chat_text import ChatText, family_template, read_chat_text
from finetuning.errors import CheckpointError
from finetuning.models.weights import Model, TorchWeights, model_from
from finetuning.training.checkpoint import load_checkpoint
from finetuning.training.run_folder import (
    CHECKPOINT,
    MODEL,
    best_checkpoint,
    run_text,
    run_vocabulary,
)
from lambda_inference.errors import InferenceError
from lambda_inference.gguf.chat_template import ChatTemplate, template_from
from lambda_inference.gguf.checkpoint import checkpoint_in, open_checkpoint


@dataclass(frozen=True, slots=True)
class Base:
    """A model with what its text needs; `load` reads the weights, float32, on the CPU."""

    load: Callable[[], Model]
    vocabulary: Path
    text: ChatText


def open_base(path: Path, tokenizer: Path | None = None) -> Base:
    """Find a model: .pth, .safetensors, a model folder, or the folder of a training run.

    `tokenizer` takes the place of the model's own; needed where it comes without one.

    Raises:
        CheckpointError: there is none, or it lacks a tokenizer.
    """
    if not path.exists():
        raise CheckpointError(
            f"There is no model at {path}. Give --base a .pth or .safetensors file, a model "
            "folder, or the folder of a training run."
        )
    if path.suffix == ".gguf":
        raise CheckpointError(
            f"{path} is a file for serving; training needs the weights it was made from: give "
            "--base the .pth or .safetensors file, or the model folder."
        )
    if (path / CHECKPOINT).is_file():
        if (path / MODEL).is_dir():
            return open_base(path / MODEL, tokenizer)
        return _of_run(path)
    try:
        weights = checkpoint_in(path) if path.is_dir() else path
    except InferenceError as error:
        raise CheckpointError(str(error)) from error
    vocabulary = tokenizer or _vocabulary_beside(weights)
    template = _template_beside(weights) or family_template(vocabulary)
    return Base(lambda: _load(weights), vocabulary, read_chat_text(vocabulary, template))


def _load(path: Path) -> Model:
    try:
        return model_from(open_checkpoint(path))
    except InferenceError as error:
        raise CheckpointError(str(error)) from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _of_run(run: Path) -> Base:
    content = load_checkpoint(best_checkpoint(run))
    if content.get("method", "full") != "full":
        raise CheckpointError(
            f"{run} is a run that has not been exported, and holds no whole model. Finish it "
            "first: run its own command again with --finish."
        )
    return Base(
        lambda: model_from(TorchWeights(content["model"])), run_vocabulary(run), run_text(run)
    )


def _vocabulary_beside(weights: Path) -> Path:
    found = [weights.with_name("tokenizer.json"), *sorted(weights.parent.glob("rwkv_vocab*.txt"))]
    for candidate in found:
        if candidate.is_file():
            return candidate
    raise CheckpointError(
        f"There is no tokenizer beside {weights}. Name one with --tokenizer: a tokenizer.json "
        "(RWKV-4 Pile: 20B_tokenizer.json) or the RWKV World vocabulary (rwkv_vocab_v20230424.txt)."
    )


def _template_beside(weights: Path) -> ChatTemplate | None:
    path = weights.with_name("config.json")
    try:
        config = json.loads(path.read_text("utf-8"))
        template = config.get("template") if isinstance(config, dict) else None
        return None if template is None else template_from(dict(template), str(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, InferenceError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from error
