"""Dropout is the same whenever a step is computed, and whichever thread computes it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from finetuning.models.dropout import dropout, seeded
from finetuning.models.rwkv4 import RWKV4, RWKV4Shape
from finetuning.models.rwkv4 import initialize as initialize4
from finetuning.models.rwkv7 import RWKV7


def test_masks_follow_from_the_seed_in_any_thread() -> None:
    ones = torch.ones(1000)
    wanted = seeded(7, dropout, ones, 0.3)
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda seed: seeded(seed, dropout, ones, 0.3), [7, 8, 7, 9, 7]))
    assert all(torch.equal(drawn[at], wanted) for at in (0, 2, 4))
    assert not torch.equal(drawn[1], wanted)
    assert 220 < int((wanted == 0).sum()) < 380
    assert float(wanted.max()) == pytest.approx(1 / 0.7)


def test_two_masks_of_one_seed_differ() -> None:
    def twice(x: Tensor) -> tuple[Tensor, Tensor]:
        return dropout(x, 0.5), dropout(x, 0.5)

    first, second = seeded(1, twice, torch.ones(200))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("generation", [4, 7])
def test_blocks_computed_twice_drop_the_same(generation: int, model: RWKV7) -> None:
    tuned: RWKV4 | RWKV7 = model
    if generation == 4:
        tuned = RWKV4(RWKV4Shape(2, 64, 320))
        initialize4(tuned, seed=1, emb_scale=0.5)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for weight in tuned.parameters():
                weight += 0.02 * torch.randn(weight.shape, generator=generator)
    tuned.train()
    tokens = torch.randint(0, 320, (2, 32), generator=torch.Generator().manual_seed(3))

    def gradients(share: float, *, recompute: bool) -> list[Tensor]:
        tuned.recompute = recompute
        for block in tuned.blocks:
            block.dropout = share  # type: ignore[assignment]
        loss = seeded(3, lambda: tuned(tokens)[0].square().mean())
        # layer 0 of RWKV-7 has parameters that nothing uses
        found = torch.autograd.grad(loss, list(tuned.parameters()), allow_unused=True)
        return [gradient for gradient in found if gradient is not None]

    def alike(first: list[Tensor], second: list[Tensor]) -> bool:
        pairs = zip(first, second, strict=True)
        return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)

    dropped = gradients(0.2, recompute=False)
    assert alike(dropped, gradients(0.2, recompute=True))
    whole = gradients(0.0, recompute=False)
    assert alike(whole, gradients(0.0, recompute=True))
    assert not alike(dropped, whole)


def test_nothing_is_dropped_outside_training(model: RWKV7) -> None:
    tokens = torch.arange(32).unsqueeze(0)
    with torch.no_grad():
        plain = model(tokens)[0]
        for block in model.blocks:
            block.dropout = 0.5  # type: ignore[assignment]
        assert torch.equal(model(tokens)[0], plain)
        model.train()
        assert not torch.equal(model(tokens)[0], plain)
