"""One model measured: every format on every data file, the floor beside it, sampled conversations.

Formats are `torch` (the float weights in PyTorch) and the types of the model file, run by the
engine that serves. The files are made on the spot from the checkpoint, in a folder that goes again;
a model that is only a file is measured as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from finetuning.data.corpus import Conversation
from finetuning.data.sources import Source, read_one, talks_at
from finetuning.data.talk_text import read_talks
from finetuning.errors import EvaluationError
from finetuning.evaluation.native_bits import bits_by_engine
from finetuning.evaluation.ngram import NGram
from finetuning.evaluation.sampled import Exchange, Script, converse, scripts
from finetuning.evaluation.score import Done, Spelled, spell, tally
from finetuning.evaluation.sense import (
    MEASURES,
    BitsOfGroups,
    Measure,
    Picking,
    answered,
    by_file,
    in_one_go,
    picked,
    pickings,
    remembered,
    replies_needed,
)
from finetuning.evaluation.statistics import statistics, words_of
from finetuning.training.run_folder import MODEL as RUN_MODEL
from lambda_inference.errors import ModelNotFound
from lambda_inference.gguf.checkpoint import SUFFIXES, checkpoint_in
from lambda_inference.gguf.convert import Quantization, convert
from lambda_inference.gguf.reader import read_info
from lambda_inference.model import ModelDescription, describe, shipped_model
from lambda_inference.settings import ServerSettings
from lambda_inference.talk.prompt import PromptBuilder

TORCH = "torch"
USUAL: tuple[str, ...] = (TORCH, "F32", "Q8_0", "Q4_0")
"""Formats measured when none is named."""
_MADE: dict[str, Quantization] = {name: name for name in get_args(Quantization)}
_SAMPLED = "Q8_0"  # what is served
_BASE = "F32"  # what the others are compared with
FLOOR_ORDER = 5

Replying = Callable[..., dict[str, Any]]
Watch = Callable[[str, int, int], None]
"""Told of a stage by name: how much is done, and of how much."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    data: tuple[Path, ...]
    formats: tuple[str, ...] = ()
    """Empty: all usual ones, or the file's own."""
    floor: Path | None = None
    limit: int | None = None
    """Conversations of each data file, spread evenly over it."""
    threads: int | None = None
    samples: int = 0
    turns: int = 10
    """What the user says in a sampled conversation, and so the replies."""
    seed: int = 0
    imitate: str | None = None
    """Of exports of channels, here and below: see `read_discord_export`."""
    keep: tuple[str, ...] = ()
    measures: tuple[Measure, ...] | None = None
    """Of sense; None: all if the data is of talks."""
    drafts: tuple[int, ...] = (1,)
    """Drafts of which a reply is chosen where replies are judged: each number is tried."""

    @property
    def senses(self) -> tuple[Measure, ...]:
        """What of sense is measured."""
        if self.measures is not None:
            return self.measures
        return MEASURES if any(talks_at(path) for path in self.data) else ()

    def read(self, path: Path, report: Report) -> list[Conversation]:
        """The conversations at `path`, of talks those that no model learns from.

        The report is told what was left out.
        """
        if (folder := talks_at(path)) is not None:
            return Source([], read_talks(folder)).plain("test")
        return read_one(path, report.bad.append, imitate=self.imitate, keep=self.keep)


@dataclass(slots=True)
class Report:
    """What was measured; `bad` are sentences about what was left out of the data."""

    model: str
    weights: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    floor: dict[str, Any] | None = None
    sampled: dict[str, Any] | None = None
    sense: list[dict[str, Any]] = field(default_factory=list)
    talks: list[list[Exchange]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        document: dict[str, Any] = {"model": self.model, "weights": self.weights, "rows": self.rows}
        document |= {} if self.floor is None else {"floor": self.floor}
        document |= {"sense": self.sense} if self.sense else {}
        return document | ({} if self.sampled is None else {"sampled": self.sampled})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to measure: a checkpoint, or a file and the type that it is in."""

    description: ModelDescription
    own: str | None = None
    """Type of the model file; None for a checkpoint."""

    @property
    def formats(self) -> tuple[str, ...]:
        """What is measured when nothing is named."""
        return USUAL if self.own is None else (self.own,)


def candidate(model: Path | None) -> Candidate:
    """The model at a path (a .gguf, a checkpoint, or a folder), or the shipped one.

    In a folder, and beside the shipped file, a checkpoint is preferred: it gives every format.

    Raises:
        ModelError: nothing usable is there.
    """
    path = model
    if path is None:
        path = shipped_model()
        path = path.parent if path.is_file() else path
    if (path / RUN_MODEL).is_dir():  # the folder of a training run
        path /= RUN_MODEL
    if path.is_dir():
        try:
            path = checkpoint_in(path)
        except ModelNotFound:
            if any(file.suffix in SUFFIXES for file in path.iterdir()):
                raise
    description = describe(path)
    if description.weights.suffix in SUFFIXES:
        return Candidate(description)
    kinds = [tensor.type for tensor in read_info(description.weights).tensors]
    names = [name for name in ("Q4_0", "Q8_0", "F16", "F32") if name in kinds]
    return Candidate(description, names[0] if names else "file")


def needs(found: Candidate, formats: Sequence[str]) -> set[str]:
    """Packages beyond the core ones that measuring takes.

    Raises:
        EvaluationError: a format that the candidate cannot be had in.
    """
    if found.own is not None and any(name != found.own for name in formats):
        raise EvaluationError(
            f"{found.description.weights.name} is {found.own}, and other formats are made from a "
            "checkpoint. Give the model's folder, or leave --format out."
        )
    packages = {"torch", "rwkv"} if TORCH in formats else set()
    return packages | ({"gguf"} if found.own is None else set())


def run(found: Candidate, plan: Plan, watch: Watch = lambda *_: None) -> Report:
    """Measure.

    Raises:
        FinetuneError: the data or the weights cannot be used.
        InferenceError: the model file cannot be made or run.
    """
    description = found.description
    report = Report(description.id, description.weights.name)
    prompts = PromptBuilder(description.template, description.tokenizer())
    whole = [plan.read(path, report) for path in plan.data]
    parts = [_spread(found, plan.limit) for found in whole]
    texts = [spell(prompts, one) for part in parts for one in part]
    data = list(chain.from_iterable(whole))
    picking = pickings(data, prompts, seed=plan.seed) if "pick" in plan.senses else []
    said = scripts(data, plan.samples, plan.turns, seed=plan.seed)  # which may fail, so at once

    def measured(name: str, bits: Sequence[float]) -> None:
        at = 0
        for path, part in zip(plan.data, parts, strict=True):
            scores = tally(part, bits[at : at + len(part)])
            at += len(part)
            report.rows += [
                {"file": path.name, "format": name, "name": source, **score.as_row()}
                for source, score in scores.items()
            ]

    with _files(found) as file_of:
        for name in plan.formats or found.formats:
            with _watched(watch, name, texts) as done:
                if name == TORCH:
                    from finetuning.evaluation.torch_bits import bits_by_torch, load_model

                    by_torch = partial(
                        bits_by_torch, load_model(description.weights), threads=plan.threads
                    )
                    groups = in_one_go(by_torch)
                    measured(name, by_torch(texts, done))
                else:
                    groups = by_file(file_of(name), plan.threads)
                    measured(name, bits_by_engine(file_of(name), texts, done, threads=plan.threads))
            weights = description.weights if name == TORCH else file_of(name)
            report.sense += _sense(name, weights, groups, picking, plan, watch)
        _compare(report.rows)
        if plan.floor is not None:
            name, bits = _floor(plan.floor, plan, prompts, texts, report, watch)
            measured(name, bits)
        if plan.samples:
            name = found.own or _SAMPLED
            _sample(file_of(name), name, said, data, plan, report, watch)
    return report


def _sense(
    name: str,
    weights: Path,
    bits: BitsOfGroups,
    picking: Sequence[Picking],
    plan: Plan,
    watch: Watch,
) -> list[dict[str, Any]]:
    """The measures of sense in one format, a row each."""
    rows = []
    if picking:
        with _counted(watch, f"{name}: pick", sum(one.tokens for one in picking)) as done:
            rows += picked(picking, bits, done)
    replying: dict[Measure, Replying] = {"who": answered, "memory": remembered}
    for measure in (one for one in plan.senses if one in replying):
        for drafts in plan.drafts:
            stage = f"{name}: {measure}, {drafts} draft{'s' if drafts > 1 else ''}"
            settings = ServerSettings(drafts=drafts)
            with _counted(watch, stage, replies_needed()[measure]) as done:
                row = replying[measure](weights, settings, seed=plan.seed, done=partial(done, 1))
            rows.append({"drafts": drafts, **row})
    return [{"format": name, **row} for row in rows]


def _spread(found: Sequence[Conversation], limit: int | None) -> list[Conversation]:
    count = min(len(found), limit or len(found))
    return [found[place * len(found) // count] for place in range(count)]


@contextmanager
def _files(found: Candidate) -> Iterator[Callable[[str], Path]]:
    """Gives the model file of a format, made when it is first asked for."""
    with TemporaryDirectory(prefix="friend-eval-") as folder:

        def file_of(name: str) -> Path:
            weights = found.description.weights
            if found.own is not None:
                return weights
            path = Path(folder) / f"{name}.gguf"
            if not path.exists():
                convert(weights, path, quantization=_MADE[name])
            return path

        yield file_of


@contextmanager
def _watched(watch: Watch, stage: str, texts: Sequence[Spelled]) -> Iterator[Done]:
    with _counted(watch, stage, sum(len(text.tokens) for text in texts)) as done:
        yield done


@contextmanager
def _counted(watch: Watch, stage: str, total: int) -> Iterator[Done]:
    so_far = 0

    def done(count: int) -> None:
        nonlocal so_far
        so_far += count
        watch(stage, so_far, total)

    watch(stage, 0, total)
    yield done


def _compare(rows: Sequence[dict[str, Any]]) -> None:
    """Say how far the engine's formats are from F32, in percent."""
    base = {
        (row["file"], row["name"]): row["bits_per_byte"] for row in rows if row["format"] == _BASE
    }
    for row in rows:
        exact = base.get((row["file"], row["name"]))
        if exact is not None and row["format"] not in (_BASE, TORCH):
            row["change_from_f32_percent"] = round(100 * (row["bits_per_byte"] / exact - 1), 3)


def _floor(
    path: Path,
    plan: Plan,
    prompts: PromptBuilder,
    texts: Sequence[Spelled],
    report: Report,
    watch: Watch,
) -> tuple[str, list[float]]:
    """Name and bits of the n-gram model of the conversations at `path`, in the model's tokens."""
    stage = f"{FLOOR_ORDER}-gram"
    small: npt.DTypeLike = np.uint16 if prompts.vocab_size <= 1 << 16 else np.int32
    learnt = [spell(prompts, one).asked.astype(small) for one in plan.read(path, report)]
    watch(stage, 0, 2)
    model = NGram.train(learnt, prompts.vocab_size, order=FLOOR_ORDER)
    watch(stage, 1, 2)
    bits = [-float(found.sum()) for found in model.log2_probabilities([one.asked for one in texts])]
    watch(stage, 2, 2)
    report.floor = {
        "file": path.name,
        "order": FLOOR_ORDER,
        "tokens": sum(map(len, learnt)),
        "n_grams": model.grams,
    }
    return stage, bits


def _sample(
    file: Path,
    name: str,
    said: Sequence[Script],
    data: Iterable[Conversation],
    plan: Plan,
    report: Report,
    watch: Watch,
) -> None:
    so_far, total = 0, plan.samples * plan.turns

    def done() -> None:
        nonlocal so_far
        so_far += 1
        watch("replies", so_far, total)

    watch("replies", 0, total)
    report.talks = converse(file, said, seed=plan.seed, done=done)
    known = {word for one in data for turn in one.turns for word in words_of(turn)}
    found = statistics(report.talks, known)
    report.sampled = {
        "format": name,
        "turns": plan.turns,
        "seed": plan.seed,
        **found.as_json(),
    }
