"""`friend finetune`: teach a model from conversations. The package finetuning does it."""

from __future__ import annotations

import importlib.util
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from friend.model_commands import WeightType

_PACKAGES = ("torch", "safetensors", "gguf", "matplotlib", "zstandard")  # of the extra `training`
_DATA = "What to learn from"
_START = "What to start from, and how to train it"
_LENGTH = "How long"
_MEMORY = "Memory and speed"
_RESULT = "What comes of it"


class Method(StrEnum):
    """What of the model is trained."""

    FULL = "full"
    LORA = "lora"
    STATE = "state"


class Learn(StrEnum):
    """Which words count."""

    ALL = "all"
    REPLIES = "replies"


class Rule(StrEnum):
    """The optimizer."""

    MUON = "muon"
    ADAMW = "adamw"


class Log(StrEnum):
    """Where else the curve is shown."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"


def _option(panel: str, text: str, *names: str, default: str = "", **more: Any) -> Any:
    """An option in a panel of the help; `default` says in words what happens without it."""
    return typer.Option(
        *names, help=text, rich_help_panel=panel, show_default=default or True, **more
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("finetune")(finetune)


def finetune(
    data: Annotated[
        list[Path],
        _option(
            _DATA,
            "Conversations: .jsonl, .jsonl.zst, .csv, .tsv, Topical-Chat's .json, an export of "
            "Slack or Discord; or `talks`, those written for friend. May be repeated.",
        ),
    ],
    out: Annotated[
        Path, _option(_RESULT, "Folder of the run. Run the same command again to go on with it.")
    ],
    valid: Annotated[
        list[Path] | None, _option(_DATA, "Held-out conversations, to watch the loss on.")
    ] = None,
    held_out: Annotated[
        float, _option(_DATA, "Share of the data to hold out, where there is no --valid.")
    ] = 0.05,
    imitate: Annotated[
        str | None, _option(_DATA, "Exports of a channel: name or id of the person to sound like.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        _option(_DATA, "Exports: a name that is an everyday word too, and stays."),
    ] = None,
    mixture: Annotated[
        list[str] | None,
        _option(
            _DATA, "How often an epoch uses a source, as topical-chat=4.", metavar="SOURCE=WEIGHT"
        ),
    ] = None,
    people: Annotated[
        list[str] | None,
        _option(
            _DATA,
            "A source in which both speakers are people: both get the user's label, so that the "
            "model learns the language and not to be one of them. May be repeated.",
            metavar="SOURCE",
        ),
    ] = None,
    learn: Annotated[
        Learn | None,
        _option(
            _DATA,
            "all: every turn; replies: only what the model itself must say. ",
            default="all; replies for --method state",
        ),
    ] = None,
    base: Annotated[
        Path | None,
        _option(
            _START,
            "RWKV-4 or RWKV-7: .pth, .safetensors, a model folder, or a run. ",
            default="none, an RWKV-7 from scratch",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        _option(
            _START,
            "tokenizer.json or the RWKV World vocabulary.",
            default="what lies beside the base",
        ),
    ] = None,
    method: Annotated[
        Method,
        _option(
            _START, "full: all weights; lora: thin matrices, merged at the end; state: a voice."
        ),
    ] = Method.FULL,
    layers: Annotated[int, _option(_START, "From scratch: layers.")] = 4,
    width: Annotated[int, _option(_START, "From scratch: width, a multiple of 64.")] = 256,
    vocab_size: Annotated[int, _option(_START, "From scratch: tokens of the vocabulary.")] = 4096,
    lora_rank: Annotated[int, _option(_START, "LoRA: inner size of the matrices.")] = 8,
    lora_alpha: Annotated[
        float, _option(_START, "LoRA: their product is scaled by alpha/rank.")
    ] = 32.0,
    lora_dropout: Annotated[float, _option(_START, "LoRA: share of inputs left out.")] = 0.01,
    lora_targets: Annotated[
        list[str] | None,
        _option(_START, "LoRA: pattern of layers, as 'blocks.*.att.*'.", default="all matrices"),
    ] = None,
    rule: Annotated[
        Rule | None, _option(_START, "Optimizer.", default="muon from scratch, adamw otherwise")
    ] = None,
    peak_rate: Annotated[
        float | None,
        _option(
            _START,
            "Learning rate after the warm-up. ",
            default="3e-3 from scratch, 1e-5 full, 1e-4 LoRA, 0.3 state",
        ),
    ] = None,
    final_rate: Annotated[
        float | None,
        _option(_START, "Learning rate at the end of the cosine.", default="peak / 10 or less"),
    ] = None,
    weight_decay: Annotated[
        float | None,
        _option(_START, "Of big matrices.", default="0.1 from scratch, 0.01 full, else 0"),
    ] = None,
    dropout: Annotated[float, _option(_START, "Share of each half layer left out.")] = 0.0,
    seed: Annotated[int, _option(_START, "Of initial values, order and dropout.")] = 0,
    epochs: Annotated[float | None, _option(_LENGTH, "Passes over the data.", default="3")] = None,
    steps: Annotated[int | None, _option(_LENGTH, "Or: batches.")] = None,
    tokens: Annotated[int | None, _option(_LENGTH, "Or: tokens.")] = None,
    minutes: Annotated[float | None, _option(_LENGTH, "Or: minutes of computing.")] = None,
    patience: Annotated[
        int | None,
        _option(
            _LENGTH,
            "Stop after so many validations without a better loss; 0: never. ",
            default="3; 0 from scratch",
        ),
    ] = None,
    validate_steps: Annotated[
        int | None,
        _option(_LENGTH, "Steps between validations.", default="about once an epoch"),
    ] = None,
    row_length: Annotated[int, _option(_MEMORY, "Tokens the model reads at a stretch.")] = 512,
    batch_size: Annotated[
        int | None, _option(_MEMORY, "Rows a step.", default="8; 16 from scratch")
    ] = None,
    micro_batch: Annotated[
        int | None,
        _option(
            _MEMORY,
            "Rows computed at a time: memory, not result.",
            default="1; 4 from scratch on a GPU",
        ),
    ] = None,
    checkpointing: Annotated[
        bool,
        _option(_MEMORY, "Compute every layer twice, to keep less.", "--checkpointing"),
    ] = False,
    device: Annotated[str, _option(_MEMORY, "cpu, cuda, or auto.")] = "auto",
    precision: Annotated[
        str, _option(_MEMORY, "Of matrix products: auto (bf16 where it is fast), bf16 or fp32.")
    ] = "auto",
    workers: Annotated[int, _option(_MEMORY, "CPU threads; 0: the CPUs given.")] = 0,
    checkpoint_seconds: Annotated[float, _option(_MEMORY, "Between checkpoints.")] = 120.0,
    type_: Annotated[
        WeightType, _option(_RESULT, "Of the model file.", "--type", case_sensitive=False)
    ] = WeightType.Q8_0,
    name: Annotated[
        str | None, _option(_RESULT, "The model's name.", default="the folder's")
    ] = None,
    finish: Annotated[
        bool, _option(_RESULT, "Train no further: export the best so far.", "--finish")
    ] = False,
    log: Annotated[Log | None, _option(_RESULT, "Show the curve there too.")] = None,
    as_json: Annotated[
        bool, _option(_RESULT, "Print the result as JSON; progress goes to stderr.", "--json")
    ] = False,
) -> None:
    """Teach a model from conversations; run again to go on after an interruption.

    From nothing, or from an RWKV-4 or RWKV-7 of any size. Ends with a model file to talk with.
    """
    _require_training()
    from finetuning.errors import FinetuneError
    from finetuning.models.lora import TARGETS, LoraSettings
    from finetuning.training.recipes import recipe
    from finetuning.training.session import run_session
    from finetuning.training.settings import TrainSettings
    from lambda_inference.engine.cpus import cpus_given

    usual = recipe(method.value, from_scratch=base is None)
    peak = usual.peak_rate if peak_rate is None else peak_rate
    if final_rate is None:
        final_rate = peak * usual.final_rate / usual.peak_rate
    if (epochs, steps, tokens, minutes) == (None, None, None, None):
        epochs = 3.0
    batch = usual.batch_size if batch_size is None else batch_size
    place = _device(device)
    settings = TrainSettings(
        data=tuple(data), out=out, valid=tuple(valid or ()), held_out=held_out, imitate=imitate,
        keep=tuple(keep or ()), mixture=_mixture(mixture or []), people=tuple(people or ()),
        learn=usual.learn if learn is None else learn.value,
        base=base, tokenizer=tokenizer, layers=layers, width=width, vocab_size=vocab_size,
        method=method.value,
        lora=LoraSettings(lora_rank, lora_alpha, lora_dropout, tuple(lora_targets or TARGETS)),
        minutes=minutes, tokens=tokens, steps=steps, epochs=epochs,
        patience=usual.patience if patience is None else patience,
        row_length=row_length, batch_size=batch,
        micro_batch=_micro_batch(place, usual.micro_batch, batch)
        if micro_batch is None
        else micro_batch,
        checkpointing=checkpointing, rule=usual.rule if rule is None else rule.value,
        peak_rate=peak, final_rate=final_rate,
        weight_decay=usual.weight_decay if weight_decay is None else weight_decay,
        dropout=dropout, seed=seed, device=place, precision=precision,
        workers=workers or cpus_given(), checkpoint_seconds=checkpoint_seconds,
        validate_steps=usual.validate_steps if validate_steps is None else validate_steps,
    )  # fmt: skip
    try:
        summary = run_session(
            settings,
            name=name or out.resolve().name,
            quantization=type_.value,
            finish=finish,
            log=None if log is None else log.value,
            quiet_stdout=as_json,
        )
    except (FinetuneError, ValueError) as error:
        typer.secho(f"friend: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    if summary["ending"] == "asked to":
        raise typer.Exit(130)


def _require_training() -> None:
    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        typer.secho(
            f"friend: Training needs packages that are not installed ({', '.join(missing)}). "
            f"Install them with: {sys.executable} -m pip install 'friend-bot[training]' "
            "(in a checkout of friend: --editable '.[training]').",
            err=True,
            fg=typer.colors.RED,
        )
        raise typer.Exit(1)


def _mixture(texts: list[str]) -> dict[str, float]:
    weights = {}
    for text in texts:
        source, mark, weight = text.rpartition("=")
        try:
            weights[source] = float(weight)
        except ValueError:
            mark = ""
        if not mark:
            raise typer.BadParameter(f"--mixture {text}: write SOURCE=WEIGHT, as topical-chat=4.")
    return weights


def _micro_batch(device: str, usual: int, batch: int) -> int:
    """A CPU is fastest with what fits into its caches."""
    return 1 if device == "cpu" or batch % usual else usual


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise typer.BadParameter("--device cuda: torch finds no GPU here. Use --device cpu.")
    if device != "cpu" and not device.startswith("cuda"):
        raise typer.BadParameter("--device is cpu, cuda or auto.")
    return device
