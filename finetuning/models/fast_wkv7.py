"""RWKV-7's recurrence by flash-linear-attention (the package `fla`), where that and a GPU are.

The same function as `wkv7_chunked`, by other people's Triton kernels. FRIEND_FLA=0 leaves it alone.
It was not run where this was written, for want of a GPU; where there is one, a test compares both.

Source: https://github.com/fla-org/flash-linear-attention, fla/ops/rwkv7/chunk.py (`chunk_rwkv7`).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

SWITCH = "FRIEND_FLA"


def fast_wkv7(r: Tensor) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The faster recurrence for operands like `r`, if there is one here."""
    return _by_fla if r.is_cuda and os.environ.get(SWITCH, "1") != "0" and _kernel() else None


@cache
def _kernel() -> Any:
    if importlib.util.find_spec("fla") is None:
        return None
    return importlib.import_module("fla.ops.rwkv7").chunk_rwkv7


def _by_fla(
    r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """As `wkv7_chunked`; the kernel keeps its state as [B, H, N key, N value]."""
    with torch.autocast(r.device.type, enabled=False):
        y, last = _kernel()(
            r=r, w=log_w, k=k, v=v, a=a, b=b, scale=1.0,
            initial_state=state.transpose(-1, -2).contiguous(), output_final_state=True,
        )  # fmt: skip
    return y, last.transpose(-1, -2)
