"""Which rule updates which weights, and the learning rate over the run.

Hidden matrices go to Muon (orthogonalized momentum, Jordan et al. 2024), scaled so that its
steps are as large as AdamW's; all the rest to AdamW, with the reference's habits for RWKV-7:
eps 1e-18, betas 0.9 / 0.99, decay on big matrices only, w0 at twice the rate.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

from finetuning.training.muon import Muon

Rule = Literal["muon", "adamw"]
_SCALE = "lr_scale"


def make_optimizers(
    model: nn.Module, *, rule: Rule, weight_decay: float, dtype: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """The optimizers that together hold every trainable weight of `model` once.

    Muon's work is several matrix products a weight, so it gets one optimizer a layer: they can
    step side by side. `dtype`: operands of its products; bfloat16 is slow where it is emulated.
    """
    big, double, rest = [], [], []
    hidden: dict[str, list[nn.Parameter]] = defaultdict(list)
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        if name.endswith("att.w0"):
            double.append(weight)
        elif weight.ndim == 2 and name.endswith(".weight"):
            if rule == "muon" and name.startswith("blocks."):
                hidden[name.split(".")[1]].append(weight)
            else:
                big.append(weight)
        else:
            rest.append(weight)
    groups = [
        {"params": big, "weight_decay": weight_decay, _SCALE: 1.0},
        {"params": double, "weight_decay": 0.0, _SCALE: 2.0},
        {"params": rest, "weight_decay": 0.0, _SCALE: 1.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99), eps=1e-18, foreach=True)
    ]
    optimizers += [
        Muon([{"params": weights, _SCALE: 1.0}], weight_decay=weight_decay, dtype=dtype)
        for weights in hidden.values()
    ]
    return optimizers


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], rate: float) -> None:
    """Set the rate of all groups, each with its own factor."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group[_SCALE]


def scheduled_rate(progress: float, *, peak: float, final: float, warmup: float = 0.02) -> float:
    """Linear warm-up over the share `warmup` of the run, then a cosine from `peak` to `final`.

    `progress`: share of the budget used, 0 to 1.
    """
    if progress < warmup:
        return peak * max(progress, warmup / 50) / warmup
    along = min(1.0, (progress - warmup) / (1 - warmup))
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * along))
