from __future__ import annotations

import torch

from finetuning.training.loss import head_loss


def test_blockwise_loss_equals_cross_entropy_and_its_gradients() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(2, 600, 16, requires_grad=True)
    weight = torch.randn(40, 16, requires_grad=True)
    targets = torch.randint(0, 40, (2, 600))
    targets[0, 100:300] = -1

    ours = head_loss(hidden, weight, targets) * 0.25
    logits = (hidden @ weight.t()).flatten(0, 1)
    wanted = 0.25 * torch.nn.functional.cross_entropy(
        logits, targets.flatten(), ignore_index=-1, reduction="sum"
    )

    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-3)
    for got, want in zip(
        torch.autograd.grad(ours, (hidden, weight)),
        torch.autograd.grad(wanted, (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
