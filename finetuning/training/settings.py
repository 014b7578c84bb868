"""Everything that a run is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from finetuning.data.packing import Learn
from finetuning.models.lora import LoraSettings
from finetuning.models.rwkv7 import CHUNK
from finetuning.training.optimizer import Rule

Method = Literal["full", "lora", "state"]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """A run. Exactly one of `minutes`, `tokens`, `steps` and `epochs` is its length."""

    data: tuple[Path, ...]
    out: Path
    valid: tuple[Path, ...] = ()
    held_out: float = 0.05  # share of `data` to watch the loss on, where there is no `valid`
    imitate: str | None = None  # whom an export of a channel shall sound like
    keep: tuple[str, ...] = ()  # names in it that are everyday words too
    mixture: Mapping[str, float] = field(default_factory=dict)  # beside MIXTURE
    people: tuple[str, ...] = ()  # sources whose speakers are both people, none of them friend
    learn: Learn = "all"

    base: Path | None = None  # None: from scratch, with the four below
    tokenizer: Path | None = None  # None: the base's own
    layers: int = 4
    width: int = 256
    vocab_size: int = 4096
    method: Method = "full"
    lora: LoraSettings = field(default_factory=LoraSettings)

    minutes: float | None = None  # of computing, pauses between resumes not counted
    tokens: int | None = None
    steps: int | None = None
    epochs: float | None = None
    patience: int = 0  # validations without a better loss before the run ends; 0: never

    row_length: int = 512  # tokens
    batch_size: int = 16  # rows a step
    micro_batch: int = 4  # rows a worker computes at a time
    checkpointing: bool = False  # compute blocks twice, to keep less in memory
    rule: Rule = "muon"
    peak_rate: float = 3e-3
    final_rate: float = 3e-5
    weight_decay: float = 0.1
    dropout: float = 0.0
    clip: float = 1.0  # largest norm of the gradient
    seed: int = 0

    device: str = "cpu"
    precision: str = "auto"  # operands of matrix products: "bf16", "fp32", or what is fast here
    workers: int = 2  # CPU only: threads that each compute micro-batches
    checkpoint_seconds: float = 120.0
    validate_steps: int = 100  # 0: about once an epoch, every 10 to 100 steps
    validation_rows: int = 64

    def validate(self) -> None:
        """Check what the types do not; ValueError names the option."""
        lengths = (self.minutes, self.tokens, self.steps, self.epochs)
        given = [length for length in lengths if length is not None]
        wrong = {
            "Give either --minutes or --tokens or --steps or --epochs.": len(given) != 1,
            "The length of a run must be more than nothing.": any(one <= 0 for one in given),
            f"--row-length must be a multiple of {CHUNK}.": self.row_length < CHUNK
            or bool(self.row_length % CHUNK),
            "--batch-size must be a multiple of --micro-batch.": self.micro_batch < 1
            or self.batch_size < 1
            or bool(self.batch_size % self.micro_batch),
            "--precision is auto, bf16 or fp32.": self.precision not in ("auto", "bf16", "fp32"),
            "--held-out is a share: at least 0 and below 1.": not 0 <= self.held_out < 1,
            "--dropout must be at least 0 and below 1.": not 0 <= self.dropout < 1,
            "--mixture takes no negative weight.": any(w < 0 for w in self.mixture.values()),
            "--workers must be at least 1.": self.workers < 1,
            f"--method {self.method} needs a model to start from: give --base.": self.base is None
            and self.method != "full",
            "--tokenizer goes with --base; from scratch one is made.": self.base is None
            and self.tokenizer is not None,
            "--width must be a multiple of 64.": self.base is None and bool(self.width % 64),
            "--patience needs held-out conversations: --valid or --held-out.": self.patience > 0
            and not self.valid
            and not self.held_out,
        }
        for sentence, applies in wrong.items():
            if applies:
                raise ValueError(sentence)
        self.lora.validate()


STRUCTURE = ("base", "method", "layers", "width", "vocab_size", "row_length", "lora")
"""Settings without which a checkpoint means nothing."""

SURROUNDINGS = (
    "out", "device", "workers", "checkpoint_seconds", "minutes", "tokens", "steps", "epochs",
)  # fmt: skip
"""Settings that a run may go on with changed: where and how long it computes."""


def as_json(settings: TrainSettings) -> dict[str, Any]:
    """The settings as JSON can hold them."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, tuple | list):
            return [plain(part) for part in value]
        if isinstance(value, Mapping):
            return {key: plain(part) for key, part in value.items()}
        return value

    result: dict[str, Any] = plain(asdict(settings))
    return result
