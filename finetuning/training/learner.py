"""The arithmetic of a step: the loss of a batch and its gradient, in micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from finetuning.data.packing import batches
from finetuning.models.dropout import seeded
from finetuning.models.rwkv7 import CHUNK
from finetuning.training.loss import head_loss
from finetuning.training.methods import Tuning
from finetuning.training.settings import TrainSettings

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

_LARGE = 50_000_000  # parameters


def operand_type(precision: str, device: torch.device) -> torch.dtype:
    """Type of the matrix products' operands; sums are float32 in every case.

    "auto": bfloat16 where the hardware multiplies it, for elsewhere it is emulated and slow.
    """
    if precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


class Learner:
    """A model with its gradients: computes the loss of a batch in micro-batches.

    On the CPU each worker thread runs whole micro-batches on one core. That keeps the work in
    the core's cache and, on a busy machine, lets no core wait for the other inside an operation.
    Gradients are summed in a fixed order, so the number of workers changes nothing but time. A
    large model, which would need the memory twice, and a step of a single micro-batch have their
    operations spread over the cores instead.
    """

    def __init__(self, tuning: Tuning, settings: TrainSettings) -> None:
        self._model: Any = tuning.module
        self._device = torch.device(settings.device)
        self._dtype = operand_type(settings.precision, self._device)
        self._micro = settings.micro_batch
        self._seed = settings.seed
        self._trim = settings.method == "state"  # rows of one conversation are mostly padding
        self._weights = tuning.parameters()
        threads, each = 1, None
        if self._device.type == "cpu":
            size = sum(weight.numel() for weight in self._model.parameters())
            single = settings.batch_size == settings.micro_batch or size > _LARGE
            threads, each = (1, settings.workers) if single else (settings.workers, 1)
        self._pool = ThreadPoolExecutor(threads, initializer=_use_threads, initargs=(each,))

    def close(self) -> None:
        """End the worker threads."""
        self._pool.shutdown(cancel_futures=True)

    def loss_and_gradients(self, batch: Batch, step: int) -> float:
        """Set `.grad` of all weights for the mean loss (nats a token), and return that.

        `step` numbers the batch: what is dropped out follows from it.
        """
        count = max(1, int((batch[1] >= 0).sum()))
        parts = list(self._parts(batch))
        seeds = np.random.SeedSequence([self._seed, step]).generate_state(len(parts), np.uint64)
        for weight in self._weights:
            weight.grad = None
        total = 0.0
        results = self._pool.map(self._gradients, parts, seeds.tolist(), [count] * len(parts))
        for loss, gradients in results:
            total += loss
            for weight, gradient in zip(self._weights, gradients, strict=True):
                if gradient is None:
                    continue
                weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
        return total

    def update(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Let all optimizers take a step."""
        list(self._pool.map(_take_step, optimizers))

    @torch.no_grad()
    def loss(self, rows: npt.NDArray[np.int32]) -> float:
        """Mean loss in nats a token over `rows`, with nothing dropped out."""
        parts = [part for whole in batches(rows, len(rows)) for part in self._parts(whole)]
        self._model.eval()
        try:
            total = sum(self._pool.map(self._summed, parts))
        finally:
            self._model.train()
        count = sum(int((targets >= 0).sum()) for _, targets in parts)
        return total / max(1, count)

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        inputs, targets = batch
        for at in range(0, len(inputs), self._micro):
            rows = slice(at, at + self._micro)
            used = inputs.shape[1]
            if self._trim:
                last = int(np.flatnonzero((targets[rows] >= 0).any(axis=0)).max(initial=0))
                used = (last // CHUNK + 1) * CHUNK
            yield inputs[rows, :used], targets[rows, :used]

    def _gradients(
        self, part: Batch, seed: int, count: int
    ) -> tuple[float, Sequence[Tensor | None]]:
        loss = seeded(seed, self._forward, part) / count
        gradients = torch.autograd.grad(loss, self._weights, allow_unused=True)
        return float(loss.detach()), gradients

    @torch.no_grad()
    def _summed(self, part: Batch) -> float:
        return float(self._forward(part))

    def _forward(self, part: Batch) -> Tensor:
        inputs, targets = (torch.from_numpy(array).to(self._device) for array in part)
        narrow = self._dtype != torch.float32
        with torch.autocast(self._device.type, self._dtype, enabled=narrow):
            hidden, _ = self._model.hidden(inputs)
        return head_loss(hidden, self._model.head.weight, targets, self._dtype)


def _take_step(optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()


def _use_threads(count: int | None) -> None:
    if count is not None:
        torch.set_num_threads(count)
