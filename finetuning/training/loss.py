"""Cross entropy over the vocabulary without ever holding all logits.

For 8,192 tokens and 4,096 words the logits alone are 134 MB, and autograd keeps several such
tensors. Here the head runs over a block of rows at a time and its gradient is taken on the spot.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_ROWS = 512


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        head, x = weight.to(dtype), hidden.to(dtype)
        dhidden = torch.empty_like(hidden)
        # a frozen head needs no gradient, which is as large as itself
        dweight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        loss = hidden.new_zeros(())
        for start in range(0, len(targets), _ROWS):
            rows = slice(start, start + _ROWS)
            target = targets[rows].unsqueeze(1)
            logits = (x[rows] @ head.t()).float()
            norm = logits.logsumexp(-1, keepdim=True)
            loss += (norm - logits.gather(1, target)).sum()
            dlogits = logits.sub_(norm).exp_()
            dlogits.scatter_add_(1, target, torch.full_like(target, -1, dtype=dlogits.dtype))
            narrow = dlogits.to(dtype)
            dhidden[rows] = (narrow @ head).float()
            if dweight is not None:
                dweight += (narrow.t() @ x[rows]).float()
        ctx.save_for_backward(dhidden, dweight)
        return loss

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor | None, ...]:
        dhidden, dweight = ctx.saved_tensors
        return dhidden * dloss, None if dweight is None else dweight * dloss, None, None


def head_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Sum of the cross entropies, in nats, of the positions with a target.

    Args: hidden float32 [B, T, C]; weight [vocabulary, C]; targets int64 [B, T], negative where
    nothing is to be learnt; `dtype` that of the matrix products' operands.
    """
    counted = targets >= 0
    operands = (hidden[counted], weight, targets[counted], dtype)
    loss: Tensor = _HeadLoss.apply(*operands)  # type: ignore[no-untyped-call]
    return loss
