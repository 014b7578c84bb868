"""Bits of conversations by the engine that serves, from a model file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from finetuning.evaluation.score import Done, Spelled, by_length
from lambda_inference.engine import State, load_engine
from lambda_inference.engine.cpus import cpus_given
from lambda_inference.engine.native import NativeEngine

_LOGITS_AT_ONCE = 1 << 22  # numbers, that is 16 MB


def bits_by_engine(
    path: Path, texts: Sequence[Spelled], done: Done = lambda _: None, *, threads: int | None = None
) -> list[float]:
    """Bits of the counted tokens of each conversation, by the model file at `path`.

    As many conversations at a time as there are `threads` (None: the CPUs given), an engine of one
    thread for each: there is nothing to wait for, and the result is the same to the bit.

    Raises:
        ModelError: the file cannot be run.
    """
    bits = [0.0] * len(texts)
    count = threads or cpus_given()
    engines: SimpleQueue[NativeEngine] = SimpleQueue()
    for _ in range(count):
        engine = load_engine(path, kind="native", threads=1)
        assert isinstance(engine, NativeEngine)
        engines.put(engine)

    def score(index: int) -> None:
        engine = engines.get()
        try:
            bits[index] = _bits(engine, texts[index])
        finally:
            engines.put(engine)
        done(len(texts[index].tokens))

    with ThreadPoolExecutor(count) as pool:
        try:
            for _ in pool.map(score, by_length(texts)):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for _ in range(count):
        engines.get().close()
    return bits


def bits_of_groups(
    path: Path,
    groups: Sequence[Sequence[Spelled]],
    done: Done = lambda _: None,
    *,
    threads: int | None = None,
) -> list[list[float]]:
    """As `bits_by_engine`, for texts that begin alike: what a group's texts share is read once.

    The texts of a group are the same up to the first counted token, and all is counted from there.

    Raises:
        ModelError: the file cannot be run.
    """
    engine = load_engine(path, kind="native", threads=threads)
    assert isinstance(engine, NativeEngine)
    try:
        found = []
        for group in groups:
            found.append(_group_bits(engine, group))
            done(sum(len(text.tokens) for text in group))
        return found
    finally:
        engine.close()


def _group_bits(engine: NativeEngine, texts: Sequence[Spelled]) -> list[float]:
    known = int(np.argmax(texts[0].counted))
    first, state = engine.forward(texts[0].tokens[:known].tolist(), None)
    bits = []
    for text in texts:
        logits = first[None]
        if len(text.tokens) > known + 1:
            after, _ = engine.forward_each(text.tokens[known:-1].tolist(), state)
            logits = np.concatenate((logits, after))
        bits.append(_nats(logits, text.tokens[known:]) / math.log(2))
    return bits


def _bits(engine: NativeEngine, text: Spelled) -> float:
    nats = 0.0
    state: State | None = None
    piece = max(1, min(256, _LOGITS_AT_ONCE // engine.vocab_size))
    for start in range(0, len(text.tokens) - 1, piece):
        end = min(start + piece, len(text.tokens) - 1)
        logits, state = engine.forward_each(text.tokens[start:end].tolist(), state)
        asked = text.counted[start + 1 : end + 1]
        logits = logits[asked]
        nats += _nats(logits, text.tokens[start + 1 : end + 1][asked])
    return nats / math.log(2)


def _nats(logits: npt.NDArray[np.float32], wanted: npt.NDArray[np.int32]) -> float:
    """Surprise at `wanted` [n], summed. Args: logits [n, vocabulary], which are overwritten."""
    chosen = logits[np.arange(len(wanted)), wanted]
    top = logits.max(axis=1, initial=-np.inf)
    logits -= top[:, None]
    np.exp(logits, out=logits)
    return float(np.sum(np.log(logits.sum(axis=1, dtype=np.float64)) + top - chosen))
