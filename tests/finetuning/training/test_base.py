"""A base loads from every form it comes in, and what is exported computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from finetuning.errors import CheckpointError
from finetuning.models.rwkv4 import RWKV4
from finetuning.models.rwkv7 import RWKV7
from finetuning.training.base import open_base
from finetuning.training.export import export_run
from finetuning.training.methods import Tuning
from finetuning.training.settings import TrainSettings
from finetuning.training.train import train
from lambda_inference.engine import load_engine
from tests.lambda_inference import checkpoints

ROWS = 257


def base_in(folder: Path, generation: int, suffix: str) -> Path:
    folder.mkdir()
    checkpoints.save_tokenizer(folder, ROWS)
    if generation == 4:
        weights = checkpoints.rwkv4(layers=2, width=64, vocab=ROWS)
    else:
        weights = checkpoints.rwkv7(layers=2, width=64, vocab=ROWS, ranks=(64, 32, 32, 96))
    return checkpoints.save(weights, folder / f"model{suffix}")


@pytest.mark.parametrize("generation", [4, 7])
def test_pth_safetensors_and_folder_are_one_model(generation: int, tmp_path: Path) -> None:
    paths = [base_in(tmp_path / kind, generation, kind) for kind in (".pth", ".safetensors")]
    models = [open_base(path).load() for path in (*paths, paths[0].parent)]
    assert isinstance(models[0], RWKV4 if generation == 4 else RWKV7)
    tokens = torch.arange(32).unsqueeze(0)
    with torch.no_grad():
        first, *others = (model(tokens)[0] for model in models)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("generation", [4, 7])
@pytest.mark.parametrize("method", ["full", "lora", "state"])
def test_the_exported_file_computes_what_was_trained(
    generation: int, method: str, corpus: Path, tmp_path: Path
) -> None:
    base = base_in(tmp_path / "base", generation, ".safetensors")
    settings = TrainSettings(
        data=(corpus,), out=tmp_path / "run", base=base, method=method,  # type: ignore[arg-type]
        steps=3, row_length=64, batch_size=2, micro_batch=2, rule="adamw",
        peak_rate=0.1 if method == "state" else 1e-2,
        validate_steps=2,
    )  # fmt: skip
    tuning: Tuning = train(settings).tuning
    exported = export_run(tuning, settings.out, name="tuned", quantization="F32")
    tokens = [0, 5, 9, 200, 31, 7, 7, 64]
    tuning.module.eval()
    with torch.no_grad():
        wanted = tuning.module(torch.tensor([tokens]))[0][0, -1].numpy()
    engine = load_engine(exported.model)
    start = None
    if method == "state":
        from lambda_inference.states.learnt import LearntState

        assert exported.state is not None
        start = engine.state_from_layers(LearntState(exported.state).layers())
    got, _ = engine.forward(tokens, start)
    assert np.linalg.norm(got - wanted) / np.linalg.norm(wanted) < 5e-3  # float16 weights
    moved = open_base(base).load()
    with torch.no_grad():
        before = moved(torch.tensor([tokens]))[0][0, -1].numpy()
    assert np.linalg.norm(wanted - before) / np.linalg.norm(before) > 2e-2


def test_what_is_no_base_gets_a_sentence(tmp_path: Path) -> None:
    path = base_in(tmp_path / "base", 7, ".safetensors")
    weights = checkpoints.rwkv7(layers=2, width=64, vocab=ROWS)
    del weights["blocks.1.att.w2"]
    checkpoints.save(weights, path)
    with pytest.raises(CheckpointError, match=r"has no tensor blocks\.1\.att\.w2"):
        open_base(path).load()
    weights = checkpoints.rwkv7(layers=2, width=64, vocab=ROWS)
    weights["head.weight"][0, 0] = np.nan
    checkpoints.save(weights, path)
    with pytest.raises(CheckpointError, match=r"head\.weight holds numbers that are not finite"):
        open_base(path).load()
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="file for serving"):
        open_base(gguf)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        open_base(tmp_path / "empty")
