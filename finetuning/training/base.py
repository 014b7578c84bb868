"""The model that a fine-tuning starts from: weights, vocabulary and template, wherever they lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from finetuning.data.chat_text import ChatText, family_template, read_chat_text
from finetuning.errors import CheckpointError
from finetuning.models.rwkv4 import RWKV4, RWKV4Shape
from finetuning.models.rwkv7 import RWKV7, LoraRanks, RWKV7Shape
from finetuning.training.checkpoint import load_checkpoint
from finetuning.training.run_folder import (
    CHECKPOINT,
    MODEL,
    best_checkpoint,
    run_text,
    run_vocabulary,
)
from lambda_inference.errors import InferenceError
from lambda_inference.gguf.checkpoint import Checkpoint, Floats, checkpoint_in, open_checkpoint
from lambda_inference.gguf.layout import shape_of
from lambda_inference.model import template_from
from lambda_inference.talk.prompt import ChatTemplate

Model = RWKV4 | RWKV7


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


def model_from(weights: Checkpoint) -> Model:
    """A model with these weights, of the shape that they have.

    Raises:
        CheckpointError: neither RWKV-4 nor RWKV-7, incomplete, or of a kind unknown here.
    """
    try:
        shape = shape_of(weights)
    except InferenceError as error:
        raise CheckpointError(str(error)) from error
    if shape.ffn_width != 4 * shape.width:
        raise CheckpointError(
            f"The feed-forward half is {shape.ffn_width} wide, not 4 times {shape.width}; "
            "such models are not trained here."
        )
    model: Model
    with torch.device("meta"):
        if shape.generation == 4:
            model = RWKV4(RWKV4Shape(shape.layers, shape.width, shape.vocab_size))
        else:
            ranks = LoraRanks(*(shape.ranks[name] for name in "wavg"))
            sizes = (shape.layers, shape.width, shape.vocab_size, shape.head_size)
            model = RWKV7(RWKV7Shape(*sizes), ranks)
    model = model.to_empty(device="cpu")
    _fill(model, weights)
    return model


class TorchWeights(Checkpoint):
    """Tensors of torch where a checkpoint is wanted."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> Floats:
        values: Floats = self._weights[name].detach().float().cpu().numpy()
        return values

    def shape(self, name: str) -> tuple[int, ...]:
        """See `Checkpoint.shape`."""
        return tuple(self._weights[name].shape)

    def __iter__(self) -> Iterable[str]:  # type: ignore[override]
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


@torch.no_grad()
def _fill(model: nn.Module, weights: Checkpoint) -> None:
    for name, target in model.state_dict(keep_vars=True).items():
        if name not in weights:
            if not name.startswith(("blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2")):
                raise CheckpointError(f"The checkpoint has no tensor {name}.")
            target.zero_()  # of the first layer of RWKV-7, which does not use it
            continue
        found = torch.from_numpy(weights[name])
        if found.numel() != target.numel():
            raise CheckpointError(
                f"The checkpoint's {name} is {list(found.shape)}, not {list(target.shape)}."
            )
        target.copy_(found.reshape(target.shape))
        if not torch.isfinite(target).all():
            raise CheckpointError(f"The checkpoint's {name} holds numbers that are not finite.")


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
