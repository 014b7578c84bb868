"""RWKV-7's recurrence on a CPU by the extension `finetuning._kernels`, where that was built.

The same function as `wkv7_recurrent`, for any length, in float32; its gradient too is written out
there. FRIEND_KERNELS=0 leaves it alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

try:
    from finetuning import _kernels
except ImportError:  # a checkout that was not installed; everything runs without it, slower
    _kernels = None  # type: ignore[assignment]

SWITCH = "FRIEND_KERNELS"

_SIZES = 4
"""Sizes of heads are multiples of this."""


def on() -> bool:
    """Whether the kernels are here, and wanted."""
    return _kernels is not None and os.environ.get(SWITCH, "1") != "0"


def native_wkv7(r: Tensor) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The recurrence by kernels for operands like `r`, if there are any here."""
    fits = r.device.type == "cpu" and r.dtype == torch.float32 and r.shape[-1] % _SIZES == 0
    return _by_kernels if fits and on() else None


def _by_kernels(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    state: Tensor,
    isa: str = "",
) -> tuple[Tensor, Tensor]:
    """As `wkv7_recurrent`. `isa`: the instruction set to use; by default the best there is."""
    operands = (r, log_w, k, v, a, b, state)
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in operands)
    result: tuple[Tensor, Tensor]
    result = _NativeWKV.apply(*operands, learns, isa)  # type: ignore[no-untyped-call]
    return result


class _NativeWKV(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        *given, learns, isa = inputs
        r, log_w, k, v, a, b, state = (x.detach().contiguous() for x in given)
        y, last = torch.empty_like(r), torch.empty_like(state)
        u = kept = None
        if learns:
            batch, time, heads, size = r.shape
            chunks = -(-time // _kernels.CHUNK)
            u, kept = torch.empty_like(y), y.new_empty(batch, heads, chunks, size, size)
            ctx.save_for_backward(r, log_w, k, v, a, b, u, kept)
        ctx.isa = isa
        ctx.set_materialize_grads(False)
        _kernels.wkv7_forward(r, log_w, k, v, a, b, state, y, last, u, kept, isa)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None) -> tuple[Tensor | None, ...]:
        r, log_w, k, v, a, b, u, kept = ctx.saved_tensors
        dy = torch.zeros_like(r) if dy is None else dy.contiguous()
        dlast = None if dlast is None else dlast.contiguous()
        dr, dlog_w, dk, dv, da, db = (torch.empty_like(r) for _ in range(6))
        dstate = torch.empty_like(kept[:, :, 0])
        _kernels.wkv7_backward(
            r, log_w, k, v, a, b, u, kept, dy, dlast, dr, dlog_w, dk, dv, da, db, dstate, ctx.isa
        )
        return dr, dlog_w, dk, dv, da, db, dstate, None, None
