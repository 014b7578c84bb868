"""A model folder holds all that another program needs, and breaks with a sentence."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from finetuning.errors import CheckpointError
from finetuning.models.rwkv7 import CHUNK, RWKV7
from finetuning.training.checkpoint import save_atomically
from finetuning.training.export import CONFIG, WEIGHTS, export_folder, load_folder
from finetuning.training.run_folder import CHECKPOINT, TOKENIZER


@pytest.fixture
def run(model: RWKV7, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    content = {"shape": asdict(model.shape), "row_length": 64, "model": model.state_dict()}
    save_atomically(content, run / CHECKPOINT)
    tokenizer.save(str(run / TOKENIZER))
    return run


def test_an_exported_model_answers_as_the_trained_one(
    run: Path, model: RWKV7, tmp_path: Path
) -> None:
    export_folder(run, tmp_path / "folder", name="tiny")
    loaded, tokenizer = load_folder(tmp_path / "folder")
    tokens = torch.randint(0, model.shape.vocab_size, (1, 2 * CHUNK))
    with torch.no_grad():
        wanted, got = model(tokens)[0], loaded(tokens)[0]
    assert float((wanted - got).norm() / wanted.norm()) < 5e-3  # float16 weights
    assert tokenizer.token_to_id("Friend:") == 2


def test_the_folder_says_what_a_server_must_know(run: Path, tmp_path: Path) -> None:
    export_folder(run, tmp_path / "folder", name="tiny")
    assert json.loads((tmp_path / "folder" / CONFIG).read_text()) == {
        "name": "tiny",
        "architecture": "rwkv7",
        "layers": 3,
        "width": 128,
        "vocab_size": 320,
        "head_size": 64,
        "context_length": 64,
        "template": {
            "user": "User:",
            "assistant": "Friend:",
            "separator": "\n\n",
            "end_of_text": 0,
        },
    }


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_folder_with_a_file_missing_gets_a_sentence(run: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    export_folder(run, folder, name="tiny")
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=r"no model folder|is broken"):
        load_folder(folder)


def test_broken_weights_get_a_sentence(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    export_folder(run, folder, name="tiny")
    broken = (folder / WEIGHTS).read_bytes()[:-100]
    (folder / WEIGHTS).write_bytes(broken)
    with pytest.raises(CheckpointError, match="is broken"):
        load_folder(folder)


def test_weights_too_large_for_half_precision_are_refused(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / CHECKPOINT, tmp_path / "old")
    content = torch.load(run / CHECKPOINT, weights_only=True)
    content["model"]["head.weight"][0, 0] = 1e6
    save_atomically(content, run / CHECKPOINT)
    with pytest.raises(CheckpointError, match=r"head\.weight has values too large"):
        export_folder(run, tmp_path / "folder", name="tiny")
