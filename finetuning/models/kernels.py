"""Parts of RWKV-7 on a CPU by the extension `finetuning._kernels`, where that was built.

The recurrence is the same function as `wkv7_recurrent`, for any length, in float32. What stands
before matrix products writes bfloat16 right away where autocast would make that of it. Gradients
too are written out there. FRIEND_KERNELS=0 leaves it all alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
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
"""Widths and sizes of heads are multiples of this."""


def on() -> bool:
    """Whether the kernels are here, and wanted."""
    return _kernels is not None and os.environ.get(SWITCH, "1") != "0"


def native_wkv7(r: Tensor) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The recurrence by kernels for operands like `r`, if there are any here."""
    return _by_kernels if _fits(r) and on() else None


def native_mixes(x: Tensor) -> Callable[..., tuple[Tensor, ...]] | None:
    """`mixes` of rwkv7 by kernels for inputs like `x`, if there are any here."""
    return _mixes if _fits(x) and on() else None


def native_operands(k: Tensor) -> Callable[..., tuple[Tensor, ...]] | None:
    """`operands` of rwkv7 by kernels for products like `k`, if there are any here."""
    return _operands if _fits(k) and on() else None


def native_relu_square(x: Tensor) -> Callable[[Tensor], Tensor] | None:
    """The square of what is above zero, by kernels for inputs like `x`, if there are any here."""
    return _relu_square if _fits(x, torch.float32, torch.bfloat16) and on() else None


def _fits(x: Tensor, *types: torch.dtype) -> bool:
    known = x.dtype in (types or (torch.float32,))
    return x.device.type == "cpu" and known and x.shape[-1] % _SIZES == 0


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


def _mixes(x: Tensor, last: Tensor, weights: Sequence[Tensor], isa: str = "") -> tuple[Tensor, ...]:
    narrow = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    dtype = torch.bfloat16 if narrow else torch.float32
    result: tuple[Tensor, ...]
    result = _NativeMixes.apply(x, last, dtype, isa, *weights)  # type: ignore[no-untyped-call]
    return result


class _NativeMixes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, last: Tensor, dtype: torch.dtype, isa: str, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        x, last = x.detach().contiguous(), last.detach().contiguous()
        weight = torch.cat([one.detach().view(1, -1) for one in weights])
        results = [torch.empty_like(x, dtype=dtype) for _ in weights]
        _kernels.mix_forward(x, last, weight, results, isa)
        ctx.save_for_backward(x, last, weight)
        ctx.isa = isa
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        x, last, weight = ctx.saved_tensors
        dx, dlast, dweight = torch.empty_like(x), torch.empty_like(last), torch.empty_like(weight)
        gradients = [one.contiguous() for one in given]
        _kernels.mix_backward(x, last, weight, gradients, dx, dlast, dweight, ctx.isa)
        return dx, dlast, None, None, *dweight.view(len(given), 1, 1, -1)


def _relu_square(x: Tensor, isa: str = "") -> Tensor:
    result: Tensor = _NativeReluSquare.apply(x, isa)  # type: ignore[no-untyped-call]
    return result


class _NativeReluSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, isa: str) -> Tensor:
        x = x.detach().contiguous()
        y = torch.empty_like(x)
        _kernels.relu_square_forward(x, y, isa)
        ctx.save_for_backward(x)
        ctx.isa = isa
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        dx = torch.empty_like(x)
        _kernels.relu_square_backward(x, dy.contiguous(), dx, ctx.isa)
        return dx, None


def _operands(
    k: Tensor, w: Tensor, a: Tensor, vectors: Sequence[Tensor], scale: float, isa: str = ""
) -> tuple[Tensor, ...]:
    result: tuple[Tensor, ...]
    result = _NativeOperands.apply(k, w, a, scale, isa, *vectors)  # type: ignore[no-untyped-call]
    return result


class _NativeOperands(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, k: Tensor, w: Tensor, a: Tensor, scale: float, isa: str, *vectors: Tensor
    ) -> tuple[Tensor, ...]:
        k, w, a = (x.detach().contiguous() for x in (k, w, a))
        vector = torch.cat([one.detach().view(1, -1) for one in vectors])
        log_w, key, removed, added = (torch.empty_like(k) for _ in range(4))
        _kernels.operands_forward(k, w, a, vector, scale, log_w, key, removed, added, isa)
        ctx.save_for_backward(k, w, a, vector)
        ctx.scale, ctx.isa = scale, isa
        return log_w, key, removed, added

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        k, w, a, vector = ctx.saved_tensors
        dlog_w, dkey, dremoved, dadded = (one.contiguous() for one in given)
        dk, dw, da = (torch.empty_like(k) for _ in range(3))
        dvector = torch.empty_like(vector)
        _kernels.operands_backward(
            k, w, a, vector, ctx.scale, dlog_w, dkey, dremoved, dadded, dk, dw, da, dvector, ctx.isa
        )
        return dk, dw, da, None, None, *dvector.view(4, 1, 1, -1)
