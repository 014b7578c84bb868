"""From a training run to files that other programs load.

`export_folder` writes what the model server reads: model.safetensors (float16, the official
tensor names), tokenizer.json, config.json. `export_pth` writes the `.pth` that the `rwkv`
package reads.

    python -m finetuning.export runs/pocket lambda_inference/models/pocket
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from finetuning.checkpoint import load_checkpoint, save_atomically
from finetuning.data.tokenizer import FRIEND, SEPARATOR, USER, load_tokenizer, turn_tokens
from finetuning.errors import CheckpointError, FinetuneError
from finetuning.rwkv7 import RWKV7, RWKV7Shape
from finetuning.train import CHECKPOINT, TOKENIZER

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def export_folder(run: Path, folder: Path, *, name: str) -> None:
    """Write the last checkpoint of the training run in `run` as a model folder.

    Raises:
        CheckpointError: the run's checkpoint is missing or broken, or a weight does not fit
            into float16.
    """
    content = load_checkpoint(run / CHECKPOINT)
    shape = RWKV7Shape(**content["shape"])
    weights = {key: _to_half(key, weight) for key, weight in content["model"].items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors leaves it to its owner alone
    shutil.copyfile(run / TOKENIZER, folder / TOKENIZER)
    config = model_config(name, shape, content["row_length"], load_tokenizer(folder / TOKENIZER))
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def model_config(
    name: str, shape: RWKV7Shape, context_length: int, tokenizer: Tokenizer
) -> dict[str, Any]:
    """What a server must know beside the weights. `context_length`: tokens a row in training."""
    return {
        "name": name,
        "architecture": "rwkv7",
        "layers": shape.layers,
        "width": shape.width,
        "vocab_size": shape.vocab_size,
        "head_size": shape.head_size,
        "context_length": context_length,
        "template": {
            "user": USER,
            "assistant": FRIEND,
            "separator": SEPARATOR,
            "end_of_text": turn_tokens(tokenizer).end_of_text,
        },
    }


def export_pth(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write `weights` as the official checkpoints are: `rwkv.model.RWKV(path without .pth)`."""
    save_atomically({key: weight.detach().cpu() for key, weight in weights.items()}, path)


def load_folder(folder: Path) -> tuple[RWKV7, Tokenizer]:
    """Load what `export_folder` wrote, in float32.

    Raises:
        CheckpointError: a file is missing, broken, or does not fit the others.
    """
    try:
        config = json.loads((folder / CONFIG).read_text())
        shape = RWKV7Shape(
            config["layers"], config["width"], config["vocab_size"], config["head_size"]
        )
        weights = load_file(folder / WEIGHTS)
        model = RWKV7(shape)
        model.load_state_dict({key: weight.float() for key, weight in weights.items()})
        return model.eval(), load_tokenizer(folder / TOKENIZER)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} is no model folder: {error.filename} is missing."
        ) from error
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"The model in {folder} is broken ({error}). Export it again."
        ) from error


def _to_half(key: str, weight: Tensor) -> Tensor:
    half = weight.to(torch.float16)
    if not torch.isfinite(half).all():
        raise CheckpointError(f"{key} has values too large for float16; nothing was written.")
    return half.contiguous()


def command(
    run: Annotated[Path, typer.Argument(help="Folder of the training run.")],
    folder: Annotated[Path, typer.Argument(help="Model folder to write.")],
    name: str = "pocket-friend",
    pth: Annotated[Path | None, typer.Option(help="Also write this .pth, in float32.")] = None,
) -> None:
    """Write the last checkpoint of a run as a model folder."""
    try:
        export_folder(run, folder, name=name)
        if pth is not None:
            export_pth(load_checkpoint(run / CHECKPOINT)["model"], pth)
    except FinetuneError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(command)
