"""All that a run needs before its first step: model, vocabulary, rows, and the run's record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from finetuning.data.chat_text import ChatText, read_chat_text
from finetuning.data.corpus import Conversation
from finetuning.data.packing import MIXTURE, Packer, tokenize
from finetuning.data.sources import (
    Source,
    for_vocabulary,
    held_apart,
    mixture_in_words,
    read_source,
)
from finetuning.data.talk_draws import TalkDraws
from finetuning.data.tokenizer import train_tokenizer
from finetuning.errors import CheckpointError, CorpusError
from finetuning.models.rwkv7 import RWKV7, RWKV7Shape, initialize
from finetuning.models.weights import Model
from finetuning.training.base import open_base
from finetuning.training.methods import Tuning
from finetuning.training.run_folder import (
    CHECKPOINT,
    TOKENIZER,
    RunRecord,
    keep_vocabulary,
    read_record,
    write_record,
)
from finetuning.training.settings import STRUCTURE, SURROUNDINGS, TrainSettings, as_json

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model and what it is to read."""

    tuning: Tuning
    packer: Packer
    valid_rows: npt.NDArray[np.int32]


def prepare(settings: TrainSettings, say: Say) -> Prepared:
    """Read data and model, and write the run's vocabulary and record.

    Raises:
        CorpusError: a data file is missing, broken or empty.
        CheckpointError: no such base, or the folder holds a run of other settings.
    """
    settings.out.mkdir(parents=True, exist_ok=True)
    earlier = read_record(settings.out)
    if earlier is not None:
        _compare(earlier, settings, say)
    source, held_out = _conversations(settings, say)
    conversations = source.conversations
    mixture = {**MIXTURE, **settings.mixture}
    if conversations and (words := mixture_in_words(conversations, mixture)):
        say(words)
    draws = None if source.talks is None else TalkDraws(source.talks.of("train"), mixture)
    model, text, vocabulary = _model(settings, source)
    tuning = Tuning(model, settings)
    _check_vocabulary(text, model.shape.vocab_size, vocabulary)
    if earlier is not None and tuning.fingerprint != earlier.fingerprint:
        raise CheckpointError(
            f"{settings.base} has changed since {settings.out} was begun. Choose another --out, "
            "or give the model it was begun with."
        )
    record = RunRecord(
        settings.method, None if settings.base is None else str(settings.base),
        tuning.fingerprint, vocabulary, asdict(text.template), as_json(settings),
    )  # fmt: skip
    write_record(settings.out, record)
    packer = Packer(
        tokenize(conversations, text, mixture, settings.people), text, settings.row_length,
        seed=settings.seed, learn=settings.learn, alone=settings.method == "state",
        draw=None if draws is None else draws.epoch,
    )  # fmt: skip
    if cut := packer.too_long():
        say(f"{cut} turn(s) are longer than a row and lose their ends: raise --row-length.")
    return Prepared(tuning, packer, _valid_rows(settings, held_out, text))


def _compare(earlier: RunRecord, settings: TrainSettings, say: Say) -> None:
    """Refuse settings of another run; say which others have changed."""
    now = as_json(settings)
    changed = [
        name
        for name, value in now.items()
        if name not in SURROUNDINGS and name in earlier.settings and earlier.settings[name] != value
    ]
    for name in changed:
        if name in STRUCTURE:
            raise CheckpointError(
                f"{settings.out} is a run with other settings: its {name.replace('_', ' ')} is "
                f"{earlier.settings[name]}, not {now[name]}. Choose another --out, or the settings "
                "it was made with."
            )
    if changed and (settings.out / CHECKPOINT).exists():
        listed = ", ".join(f"{name} {earlier.settings[name]} to {now[name]}" for name in changed)
        say(f"The run goes on with other settings: {listed}.")


def _conversations(settings: TrainSettings, say: Say) -> tuple[Source, list[Conversation]]:
    """What to learn from, and what to watch the loss on: of talks always their own share."""
    found = read_source(settings.data, say, imitate=settings.imitate, keep=settings.keep)
    if settings.valid:
        apart = read_source(settings.valid, say, imitate=settings.imitate, keep=settings.keep)
        return found, apart.plain("valid")
    if not found.conversations:
        return found, found.plain("valid") if settings.held_out else []
    learnt, held_out = held_apart(found.conversations, settings.held_out, seed=settings.seed)
    apart = Source(held_out, found.talks if settings.held_out else None)
    return Source(learnt, found.talks), apart.plain("valid")


def _model(settings: TrainSettings, source: Source) -> tuple[Model, ChatText, str]:
    """The model, its text, and the name of its vocabulary in the run's folder."""
    if settings.base is not None:
        base = open_base(settings.base, settings.tokenizer)
        kept = keep_vocabulary(base.vocabulary, settings.out)
        return base.load(), base.text, kept.name
    path = settings.out / TOKENIZER
    if not path.exists():
        words = source.plain("train")
        chosen = for_vocabulary(words, {**MIXTURE, **settings.mixture})
        texts = (turn for one in chosen for turn in one.turns)
        part = path.with_name(path.name + ".part")
        train_tokenizer(texts, settings.vocab_size).save(str(part))
        part.replace(path)
    model = RWKV7(RWKV7Shape(settings.layers, settings.width, settings.vocab_size))
    initialize(model, seed=settings.seed)
    return model, read_chat_text(path), path.name


def _check_vocabulary(text: ChatText, rows: int, name: str) -> None:
    if text.tokenizer.vocab_size > rows:
        raise CheckpointError(
            f"{name} has {text.tokenizer.vocab_size} tokens, more than the model's {rows}. "
            "They do not belong together: choose another --out, --tokenizer or --vocab-size."
        )


def _valid_rows(
    settings: TrainSettings, held_out: Sequence[Conversation], text: ChatText
) -> npt.NDArray[np.int32]:
    packer = Packer(
        tokenize(held_out, text, {}, settings.people), text, settings.row_length,
        seed=settings.seed, learn=settings.learn, alone=settings.method == "state",
    )  # fmt: skip
    if not held_out:
        return np.empty((0, settings.row_length + 1), dtype=np.int32)
    rows = packer.epoch(0)[: settings.validation_rows]
    if not (rows[:, 1:] >= 0).any():
        raise CorpusError("The held-out conversations hold nothing that is to be learnt.")
    return rows
