"""What a run does where nothing else was asked for: by what is trained and from where.

Rates of fine-tuning follow those of the RWKV community's recipes (RWKV-4 full 1e-5; LoRA rank 8,
alpha 32; a state learns from 1 to 0.01); from scratch is the recipe of the shipped model.
"""

from __future__ import annotations

from dataclasses import dataclass

from finetuning.data.packing import Learn
from finetuning.training.optimizer import Rule
from finetuning.training.settings import Method


@dataclass(frozen=True, slots=True)
class Recipe:
    """Defaults of options; see `TrainSettings`."""

    rule: Rule
    peak_rate: float
    final_rate: float
    weight_decay: float
    batch_size: int
    micro_batch: int
    validate_steps: int
    patience: int
    learn: Learn


_SCRATCH = Recipe("muon", 3e-3, 3e-5, 0.1, 16, 4, 100, 0, "all")
_FULL = Recipe("adamw", 1e-5, 1e-6, 0.01, 8, 1, 0, 3, "all")
_LORA = Recipe("adamw", 1e-4, 1e-5, 0.0, 8, 1, 0, 3, "all")
_STATE = Recipe("adamw", 0.3, 1e-2, 0.0, 8, 1, 0, 3, "replies")


def recipe(method: Method, *, from_scratch: bool) -> Recipe:
    """The defaults of a method."""
    if from_scratch:
        return _SCRATCH
    return {"full": _FULL, "lora": _LORA, "state": _STATE}[method]
