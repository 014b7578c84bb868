"""Train an RWKV-7 model from scratch on conversations, on a CPU or a GPU.

    python -m finetuning.train --data corpus/train.jsonl.zst --valid corpus/valid.jsonl.zst \
        --out runs/pocket --minutes 90

Stop it at any time and run the same command again: it goes on where the last checkpoint was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer
from torch import Tensor

from finetuning.checkpoint import load_checkpoint, save_atomically
from finetuning.data.corpus import BadLines, Conversation, read_conversations
from finetuning.data.packing import MIXTURE, Packer, batches, tokenize
from finetuning.data.tokenizer import load_tokenizer, train_tokenizer
from finetuning.errors import CheckpointError, CorpusError, DivergedError, FinetuneError
from finetuning.loss import head_loss
from finetuning.optimizer import Rule, make_optimizers, scheduled_rate, set_learning_rate
from finetuning.progress import Curve, Reporter, StepRecord
from finetuning.rwkv7 import CHUNK, RWKV7, RWKV7Shape, initialize

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

CHECKPOINT = "checkpoint.pt"
TOKENIZER = "tokenizer.json"
CURVE = "curve.csv"


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """A run. Exactly one of `minutes` and `tokens` is its length."""

    data: Path
    valid: Path
    out: Path
    minutes: float | None = None  # of computing, pauses between resumes not counted
    tokens: int | None = None
    layers: int = 4
    width: int = 256
    vocab_size: int = 4096
    row_length: int = 512  # tokens
    batch_size: int = 16  # rows a step
    micro_batch: int = 4  # rows a worker computes at a time
    workers: int = 2  # CPU only: threads that each compute micro-batches
    rule: Rule = "muon"
    peak_rate: float = 3e-3
    final_rate: float = 3e-5
    weight_decay: float = 0.1
    clip: float = 1.0  # largest norm of the gradient
    seed: int = 0
    device: str = "cpu"
    precision: str = "auto"  # operands of matrix products: "bf16", "fp32", or what is fast here
    checkpoint_seconds: float = 120.0
    validate_steps: int = 100
    validation_rows: int = 64

    def validate(self) -> None:
        """Check what the types do not; ValueError names the option."""
        if (self.minutes is None) == (self.tokens is None):
            raise ValueError("Give either --minutes or --tokens.")
        if self.row_length % CHUNK:
            raise ValueError(f"--row-length must be a multiple of {CHUNK}.")
        if self.batch_size % self.micro_batch:
            raise ValueError("--batch-size must be a multiple of --micro-batch.")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ValueError("--precision is auto, bf16 or fp32.")


@dataclass(slots=True)
class Position:
    """How far a run has come."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    epoch: int = 0
    row: int = 0

    def progress(self, settings: TrainSettings) -> float:
        """Share of the budget used: 0 to 1."""
        if settings.tokens is not None:
            return min(1.0, self.tokens / settings.tokens)
        assert settings.minutes is not None
        return min(1.0, self.seconds / (settings.minutes * 60))


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
    Gradients are summed in a fixed order, so the number of workers changes nothing but time.
    """

    def __init__(self, model: RWKV7, settings: TrainSettings) -> None:
        self.model = model
        self._device = torch.device(settings.device)
        self._dtype = operand_type(settings.precision, self._device)
        self._micro = settings.micro_batch
        self._weights = list(model.parameters())
        threads = settings.workers if self._device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(threads, initializer=_single_threaded)

    def close(self) -> None:
        """End the worker threads."""
        self._pool.shutdown()

    def loss_and_gradients(self, batch: Batch) -> float:
        """Set `.grad` of all weights for the mean loss (nats a token), and return that."""
        count = int((batch[1] >= 0).sum())
        results = self._pool.map(lambda part: self._gradients(part, count), self._parts(batch))
        total = 0.0
        for weight in self._weights:
            weight.grad = None
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
        """Mean loss in nats a token over `rows`."""
        parts = list(batches(rows, self._micro))
        totals = self._pool.map(self._summed, parts)
        count = sum(int((targets >= 0).sum()) for _, targets in parts)
        return sum(totals) / max(1, count)

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        inputs, targets = batch
        for at in range(0, len(inputs), self._micro):
            yield inputs[at : at + self._micro], targets[at : at + self._micro]

    def _gradients(self, part: Batch, count: int) -> tuple[float, Sequence[Tensor | None]]:
        loss = self._forward(part) / count
        gradients = torch.autograd.grad(loss, self._weights, allow_unused=True)
        return float(loss.detach()), gradients

    @torch.no_grad()
    def _summed(self, part: Batch) -> float:
        return float(self._forward(part))

    def _forward(self, part: Batch) -> Tensor:
        inputs, targets = (torch.from_numpy(array).to(self._device) for array in part)
        narrow = self._dtype != torch.float32
        with torch.autocast(self._device.type, self._dtype, enabled=narrow):
            hidden, _ = self.model.hidden(inputs)
        return head_loss(hidden, self.model.head.weight, targets, self._dtype)


def _take_step(optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()


def _single_threaded() -> None:
    torch.set_num_threads(1)


def train(settings: TrainSettings, reporter: Reporter | None = None) -> RWKV7:
    """Run, or go on with, the training that `settings` describes; returns the trained model.

    Writes into `settings.out`: tokenizer.json, checkpoint.pt, curve.csv.

    Raises:
        CorpusError: a data file is missing, broken, or too small for one batch.
        CheckpointError: the folder holds a run of another shape, or a broken checkpoint.
        DivergedError: the loss is not a finite number any more.
    """
    settings.validate()
    reporter = reporter or Reporter()
    settings.out.mkdir(parents=True, exist_ok=True)
    if settings.device == "cpu":
        torch.set_num_threads(1)  # a core each to the workers; and sums in one order everywhere
    model = RWKV7(RWKV7Shape(settings.layers, settings.width, settings.vocab_size))
    initialize(model, seed=settings.seed)
    model.to(settings.device)
    optimizers = make_optimizers(model, rule=settings.rule, weight_decay=settings.weight_decay)
    position = _resume(settings, model, optimizers)
    packer, valid_rows = _load_data(settings, reporter)
    curve = Curve(settings.out / CURVE, after_step=position.step)
    learner = Learner(model, settings)
    reporter.start(model, position.progress(settings))
    saved = started = time.monotonic()
    seconds_before = position.seconds
    try:
        for batch in _batches_from(packer, settings, position):
            rate = scheduled_rate(
                position.progress(settings), peak=settings.peak_rate, final=settings.final_rate
            )
            set_learning_rate(optimizers, rate)
            loss = learner.loss_and_gradients(batch)
            norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip))
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise DivergedError(
                    f"The loss is {loss} at step {position.step}. Lower --peak-rate and run again "
                    "from the last checkpoint, which is still sound."
                )
            learner.update(optimizers)
            position.step += 1
            position.tokens += batch[0].size
            position.seconds = seconds_before + time.monotonic() - started
            validation = None
            if position.step % settings.validate_steps == 0:
                validation = learner.loss(valid_rows)
            progress = position.progress(settings)
            record = StepRecord(
                position.step, position.tokens, position.seconds, rate, loss, norm, validation
            )
            curve.add(record)
            reporter.step(record, progress)
            if time.monotonic() - saved > settings.checkpoint_seconds:
                _save(settings, model, optimizers, position, curve)
                saved = time.monotonic()
            if progress >= 1.0:
                break
        _save(settings, model, optimizers, position, curve)
    finally:
        learner.close()
        curve.close()
        reporter.stop()
    return model


def _batches_from(packer: Packer, settings: TrainSettings, position: Position) -> Iterator[Batch]:
    """Endless batches from `position` on; keeps its epoch and row up to date."""
    while position.progress(settings) < 1.0:
        rows = packer.epoch(position.epoch)
        if len(rows) < settings.batch_size:
            raise CorpusError(
                f"{settings.data} fills {len(rows)} rows, fewer than one batch. "
                "Lower --batch-size or --row-length, or bring more text."
            )
        for batch in batches(rows, settings.batch_size, start=position.row):
            position.row += settings.batch_size
            yield batch
        position.epoch += 1
        position.row = 0


def _load_data(settings: TrainSettings, reporter: Reporter) -> tuple[Packer, npt.NDArray[np.int32]]:
    conversations = _read(settings.data, reporter)
    path = settings.out / TOKENIZER
    if not path.exists():
        texts = (turn for one in _for_vocabulary(conversations) for turn in one.turns)
        train_tokenizer(texts, settings.vocab_size).save(str(path))
    tokenizer = load_tokenizer(path)
    if tokenizer.get_vocab_size() > settings.vocab_size:
        raise CheckpointError(
            f"{path} has {tokenizer.get_vocab_size()} tokens, more than --vocab-size "
            f"{settings.vocab_size}. Choose another --out, or the size it was made with."
        )
    packer = Packer(
        tokenize(conversations, tokenizer), tokenizer, settings.row_length, seed=settings.seed
    )
    held_out = tokenize(_read(settings.valid, reporter), tokenizer, mixture={})
    valid_packer = Packer(held_out, tokenizer, settings.row_length, seed=settings.seed)
    return packer, valid_packer.epoch(0)[: settings.validation_rows]


def _for_vocabulary(conversations: Sequence[Conversation]) -> Iterator[Conversation]:
    """Conversations to learn a vocabulary from: sources that count less are thinned out."""
    for index, conversation in enumerate(conversations):
        every = round(1 / min(1.0, MIXTURE.get(conversation.source, 1.0)))
        if index % every == 0:
            yield conversation


def _read(path: Path, reporter: Reporter) -> list[Conversation]:
    bad = BadLines()
    conversations = list(read_conversations(path, bad))
    if bad:
        reporter.say(bad.report(path))
    if not conversations:
        raise CorpusError(f"{path} holds no usable conversation.")
    return conversations


def _resume(
    settings: TrainSettings, model: RWKV7, optimizers: Sequence[torch.optim.Optimizer]
) -> Position:
    path = settings.out / CHECKPOINT
    if not path.exists():
        return Position()
    content = load_checkpoint(path)
    try:
        model.load_state_dict(content["model"])
        for optimizer, state in zip(optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        return Position(**content["position"])
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{path} is of a run with other settings ({error}). "
            "Choose another --out, or the settings it was made with."
        ) from error


def _save(
    settings: TrainSettings,
    model: RWKV7,
    optimizers: Sequence[torch.optim.Optimizer],
    position: Position,
    curve: Curve,
) -> None:
    curve.flush()
    content = {
        "shape": asdict(model.shape),
        "row_length": settings.row_length,
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "position": asdict(position),
    }
    save_atomically(content, settings.out / CHECKPOINT)


def command(
    data: Annotated[Path, typer.Option(help="Conversations to learn from, .jsonl or .jsonl.zst.")],
    valid: Annotated[Path, typer.Option(help="Held-out conversations, to watch the loss on.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: checkpoint, tokenizer, curve.")],
    minutes: Annotated[float | None, typer.Option(help="Length of the run by the clock.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Length of the run in tokens.")] = None,
    layers: int = 4,
    width: int = 256,
    vocab_size: int = 4096,
    row_length: int = 512,
    batch_size: int = 16,
    micro_batch: int = 4,
    workers: int = 2,
    rule: Annotated[str, typer.Option(help="muon or adamw.")] = "muon",
    peak_rate: float = 3e-3,
    final_rate: float = 3e-5,
    weight_decay: float = 0.1,
    seed: int = 0,
    device: str = "cpu",
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
) -> None:
    """Train an RWKV-7 model on conversations; run again to go on after an interruption."""
    if rule not in ("muon", "adamw"):
        raise typer.BadParameter("--rule is muon or adamw.")
    settings = TrainSettings(
        data=data, valid=valid, out=out, minutes=minutes, tokens=tokens, layers=layers,
        width=width, vocab_size=vocab_size, row_length=row_length, batch_size=batch_size,
        micro_batch=micro_batch, workers=workers, rule="muon" if rule == "muon" else "adamw",
        peak_rate=peak_rate, final_rate=final_rate, weight_decay=weight_decay, seed=seed,
        device=device, precision=precision,
    )  # fmt: skip
    try:
        train(settings)
    except (FinetuneError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(command)
