"""From a training run to files that other programs load.

`export_run` makes all of them; `export_folder` writes what the model server reads and what a next
fine-tuning may start from: model.safetensors (float16, the official tensor names), the vocabulary,
config.json. `export_pth` writes the `.pth` that the `rwkv` package reads.

    python -m finetuning.training.export runs/pocket lambda_inference/models/pocket
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from finetuning.data.chat_text import ChatText
from finetuning.data.tokenizer import load_tokenizer
from finetuning.errors import CheckpointError, FinetuneError
from finetuning.models.rwkv7 import RWKV7, RWKV7Shape
from finetuning.training.checkpoint import load_checkpoint, save_atomically
from finetuning.training.methods import Tuning
from finetuning.training.run_folder import (
    MODEL,
    TOKENIZER,
    best_checkpoint,
    keep_vocabulary,
    run_text,
    run_vocabulary,
)
from finetuning.training.state_tuning import StateTuned, save_state
from lambda_inference.errors import InferenceError
from lambda_inference.gguf.convert import Quantization, convert

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class Exported:
    """The files that came of a run."""

    folder: Path
    model: Path  # .gguf
    state: Path | None

    @property
    def next_line(self) -> str:
        """What to type to talk with the model."""
        state = "" if self.state is None else f"FRIEND_MODEL_STATE={self.state} "
        return f"FRIEND_MODEL_FILE={self.model} {state}friend chat"


def export_run(
    tuning: Tuning, run: Path, *, name: str, quantization: Quantization = "Q8_0"
) -> Exported:
    """Write the best of a run as a model folder, a model file and, if one was learnt, a state.

    Raises:
        CheckpointError: the run has no sound checkpoint, or a weight does not fit into float16.
    """
    content = load_checkpoint(best_checkpoint(run))
    tuning.load(content["model"])
    folder = run / MODEL
    _write_folder(folder, tuning.result(), content, run_text(run), run_vocabulary(run), name=name)
    model = run / f"{name}.{quantization}.gguf"
    try:
        convert(folder, model, quantization=quantization, name=name)
    except InferenceError as error:
        raise CheckpointError(f"The model file could not be made: {error}") from error
    state = None
    if isinstance(tuning.module, StateTuned):
        state = run / f"{name}.safetensors"
        save_state(tuning.module, state)
    return Exported(folder, model, state)


def export_folder(run: Path, folder: Path, *, name: str) -> None:
    """Write the best checkpoint of the run in `run`, of all weights, as a model folder.

    Raises:
        CheckpointError: the run's checkpoint is missing or broken, or a weight does not fit
            into float16.
    """
    content = load_checkpoint(best_checkpoint(run))
    if content.get("method", "full") != "full":
        raise CheckpointError(
            f"{run} trained a part of a model only. Let its own command export it: --finish."
        )
    _write_folder(folder, content["model"], content, run_text(run), run_vocabulary(run), name=name)


def _write_folder(
    folder: Path,
    weights: Mapping[str, Tensor],
    content: Mapping[str, Any],
    text: ChatText,
    vocabulary: Path,
    *,
    name: str,
) -> None:
    halves = {key: _to_half(key, weight) for key, weight in weights.items()}
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / (WEIGHTS + ".part")
    save_file(halves, part, metadata={"format": "pt"})
    part.chmod(0o644)  # safetensors leaves it to its owner alone
    part.replace(folder / WEIGHTS)
    keep_vocabulary(vocabulary, folder)
    config = model_config(name, content, text)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


def model_config(name: str, content: Mapping[str, Any], text: ChatText) -> dict[str, Any]:
    """What a server must know beside the weights. `content`: of a checkpoint."""
    template = asdict(text.template) | {"end_of_text": text.marks.end_of_text}
    for key in ("system", "names"):  # left out where they are as everywhere
        if not template[key]:
            del template[key]
    return {
        "name": name,
        "architecture": content.get("architecture", "rwkv7"),
        **content["shape"],
        "context_length": content["row_length"],  # tokens a row in training
        "template": template,
    }


def export_pth(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write `weights` as the official checkpoints are: `rwkv.model.RWKV(path without .pth)`."""
    save_atomically({key: weight.detach().cpu() for key, weight in weights.items()}, path)


def load_folder(folder: Path) -> tuple[RWKV7, Tokenizer]:
    """Load an RWKV-7 with a BPE vocabulary that `export_folder` wrote, in float32.

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
    half = weight.detach().to("cpu", torch.float16)
    if not torch.isfinite(half).all():
        raise CheckpointError(f"{key} has values too large for float16; nothing was written.")
    return half.contiguous()


def command(
    run: Annotated[Path, typer.Argument(help="Folder of the training run.")],
    folder: Annotated[Path, typer.Argument(help="Model folder to write.")],
    name: str = "pocket-friend",
    pth: Annotated[Path | None, typer.Option(help="Also write this .pth, in float32.")] = None,
) -> None:
    """Write the best checkpoint of a run as a model folder."""
    try:
        export_folder(run, folder, name=name)
        if pth is not None:
            export_pth(load_checkpoint(best_checkpoint(run))["model"], pth)
    except FinetuneError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(command)
