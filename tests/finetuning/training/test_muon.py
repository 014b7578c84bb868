"""The optimizer of the hidden matrices, against torch's own and against what it promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from finetuning.training.muon import Muon, orthogonalized


def _weights(seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(24, 16), (16, 16), (16, 24), (16, 16)]
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def _train(weights: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Five steps on gradients that depend on the weights."""
    for group in optimizer.param_groups:
        group["lr"] = 0.02
    for _ in range(5):
        for weight in weights:
            weight.grad = (weight.detach() * 3).sin()
        optimizer.step()
    return [weight.detach() for weight in weights]


def test_steps_are_those_of_torch() -> None:
    """In the same type, bfloat16, both round alike but for the order of a batch's products."""
    ours, theirs = _weights(0), _weights(0)
    reference = torch.optim.Muon(theirs, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    mine = Muon([{"params": ours}], weight_decay=0.1, dtype=torch.bfloat16)
    start = _weights(0)
    for a, b, old in zip(_train(ours, mine), _train(theirs, reference), start, strict=True):
        moved = (b - old).norm()
        assert (a - b).norm() < 0.02 * moved


@pytest.mark.parametrize("shape", [(32, 32), (16, 64), (64, 16)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrices = torch.randn((3, *shape), generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalized(matrices, torch.float32))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_momentum_survives_a_checkpoint() -> None:
    ours, again = _weights(2), _weights(2)
    whole = Muon([{"params": ours}], weight_decay=0.0, dtype=torch.float32)
    _train(ours, whole)
    expected = _train(ours, whole)

    first = Muon([{"params": again}], weight_decay=0.0, dtype=torch.float32)
    _train(again, first)
    second = Muon([{"params": again}], weight_decay=0.0, dtype=torch.float32)
    second.load_state_dict(first.state_dict())
    for a, b in zip(_train(again, second), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_weight_without_a_gradient_stays() -> None:
    weights = _weights(3)
    before = weights[1].detach().clone()
    optimizer = Muon([{"params": weights}], weight_decay=0.1, dtype=torch.float32)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    weights[0].grad = torch.ones_like(weights[0])
    optimizer.step()
    torch.testing.assert_close(weights[1].detach(), before)
