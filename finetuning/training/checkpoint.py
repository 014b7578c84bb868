"""Checkpoints that a kill at any moment cannot spoil, and from which a run goes on exactly."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from finetuning.errors import CheckpointError


def save_atomically(content: object, path: Path) -> None:
    """Write beside the target, flush to the disk, then rename: `path` is old or new, never half."""
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} could not be written: {error}. "
            "Make room or choose another --out; the last good checkpoint is still there."
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load what `save_atomically` wrote; nothing in the file is ever executed."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"There is no checkpoint {path}.") from None
    except OSError as error:
        raise CheckpointError(f"The checkpoint {path} cannot be read: {error}.") from error
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"The checkpoint {path} is broken: cut off, or no checkpoint. Delete it to start over."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a checkpoint of this program.")
    return content
