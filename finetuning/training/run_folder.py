"""The folder of a run: what lies in it and under which names.

run.json             what the run is: method, base, template, settings
tokenizer.json       or rwkv_vocab_*.txt: the vocabulary
checkpoint.pt        where the run goes on after an interruption
best.pt              the weights with the least held-out loss so far
curve.csv, curve.png losses over the run
model/               the result as a folder: model.safetensors, config.json, vocabulary
NAME.Q8_0.gguf       the result as a model file
NAME.safetensors     a learnt state (state tuning only)
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetuning.data.chat_text import ChatText, read_chat_text
from finetuning.errors import CheckpointError
from lambda_inference.errors import ModelCorrupt
from lambda_inference.gguf.chat_template import ChatTemplate, template_from

RECORD = "run.json"
CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"
TOKENIZER = "tokenizer.json"
CURVE = "curve.csv"
PICTURE = "curve.png"
MODEL = "model"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run is, beside its weights."""

    method: str
    base: str | None
    fingerprint: str | None  # of the base's weights, where the run does not hold them itself
    vocabulary: str  # file name
    template: dict[str, Any]
    settings: dict[str, Any]


def write_record(run: Path, record: RunRecord) -> None:
    """Write run.json; a kill leaves the old one or the new one."""
    part = run / (RECORD + ".part")
    part.write_text(json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n", "utf-8")
    part.replace(run / RECORD)


def read_record(run: Path) -> RunRecord | None:
    """Read run.json; None if the run has none (it is new, or of an older version).

    Raises:
        CheckpointError: it cannot be read.
    """
    path = run / RECORD
    try:
        return RunRecord(**json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Choose another --out.") from error


def run_text(run: Path) -> ChatText:
    """The vocabulary and template of a run.

    Raises:
        CheckpointError: one of them is missing or broken.
    """
    record = read_record(run)
    if record is None:
        return read_chat_text(run / TOKENIZER)
    try:
        template: ChatTemplate = template_from(record.template, str(run / RECORD))
    except ModelCorrupt as error:
        raise CheckpointError(f"{error} Choose another --out.") from error
    return read_chat_text(run / record.vocabulary, template)


def run_vocabulary(run: Path) -> Path:
    """The vocabulary's file."""
    record = read_record(run)
    return run / (TOKENIZER if record is None else record.vocabulary)


def best_checkpoint(run: Path) -> Path:
    """The weights with the least held-out loss; where none was taken, the last ones."""
    best = run / BEST
    return best if best.is_file() else run / CHECKPOINT


def keep_vocabulary(source: Path, folder: Path) -> Path:
    """Copy a vocabulary under the name by which all readers find it."""
    name = TOKENIZER if source.suffix == ".json" else source.name
    if source.suffix != ".json" and not name.startswith("rwkv_vocab"):
        name = "rwkv_vocab.txt"
    target = folder / name
    if source.resolve() != target.resolve():
        shutil.copyfile(source, target)
    return target
