"""Dropout whose masks follow from a seed, so that a run that goes on draws as one that never ended.

torch's own dropout draws from one generator of the whole process: worker threads would get its
numbers in any order, and blocks that are computed a second time (to save memory) other numbers than
the first time. Here each thread draws from a seed of the micro-batch and each layer from its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_LARGEST = (1 << 63) - 1


class _Drawing(threading.local):
    seed: int | None = None
    drawn = 0


_drawing = _Drawing()


def dropout(x: Tensor, share: float) -> Tensor:
    """Put zero in place of each value with probability `share`, and scale up the rest."""
    if share == 0:
        return x
    generator = None
    if _drawing.seed is not None:
        generator = torch.Generator(x.device).manual_seed(_mixed(_drawing.seed, _drawing.drawn))
        _drawing.drawn += 1
    kept = torch.empty_like(x).bernoulli_(1 - share, generator=generator)
    return x * kept.div_(1 - share)


def seeded(seed: int | None, call: Callable[..., Any], *inputs: Any) -> Any:
    """`call(*inputs)`, with all that it drops out determined by `seed`; None: by torch's own."""
    before = _drawing.seed, _drawing.drawn
    _drawing.seed, _drawing.drawn = seed, 0
    try:
        return call(*inputs)
    finally:
        _drawing.seed, _drawing.drawn = before


def run_block(block: nn.Module, layer: int, *inputs: Any, recompute: bool) -> Any:
    """A block of a model, with masks of its own.

    `recompute`: forget what the block computed inside, and compute it again for the gradient.
    """
    seed = _drawing.seed
    call = block if seed is None else partial(seeded, _mixed(seed, -1 - layer), block)
    if recompute and torch.is_grad_enabled():
        return checkpoint(call, *inputs, use_reentrant=False, preserve_rng_state=seed is None)
    return call(*inputs)


def _mixed(seed: int, part: int) -> int:
    """Another seed for each part (splitmix64's finish)."""
    x = (seed + (part + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (x ^ (x >> 31)) & _LARGEST
