"""Muon (Jordan et al. 2024): momentum whose step is made orthogonal, for hidden matrices.

It is `torch.optim.Muon` but for the type of its products. That one iterates in bfloat16 on any
hardware; on a CPU that only emulates bfloat16 the optimizer then takes several times as long as
both passes through the model. Here the type is the caller's, and matrices of one shape go
together.

Sources: https://kellerjordan.github.io/posts/muon/ (iteration and its coefficients); Liu et al.
2025, "Muon is Scalable for LLM Training", arXiv:2502.16982 (a step as large as AdamW's).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_RMS = 0.2  # root mean square of AdamW's steps, in learning rates


class Muon(torch.optim.Optimizer):
    """For parameters of two dimensions. `dtype`: operands of the iteration's products."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        weight_decay: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(params, {"lr": 0.0, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients that are there."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append(weight)
            for shape, weights in alike.items():
                directions = orthogonalized(
                    torch.stack([*map(self._leaning, weights)]), self._dtype
                )
                size = group["lr"] * _RMS * max(shape) ** 0.5
                for weight, direction in zip(weights, directions, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(direction, alpha=-size)

    def _leaning(self, weight: Tensor) -> Tensor:
        """Nesterov's look ahead: the gradient, leaning on the momentum that it has just changed."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum_buffer"]
        momentum.lerp_(weight.grad, 1 - MOMENTUM)
        return weight.grad.lerp(momentum, MOMENTUM)


def orthogonalized(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Each of `matrices` [count, rows, columns] with all singular values near 1, by Newton-Schulz.

    Five steps of the quintic whose slope at zero is steepest: values end between some 0.7 and 1.2,
    which is as good as 1 for a step and much cheaper.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
