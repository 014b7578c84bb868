"""Bits of conversations by the engine that serves, from a model file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np

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


def _bits(engine: NativeEngine, text: Spelled) -> float:
    nats = 0.0
    state: State | None = None
    piece = max(1, min(256, _LOGITS_AT_ONCE // engine.vocab_size))
    for start in range(0, len(text.tokens) - 1, piece):
        end = min(start + piece, len(text.tokens) - 1)
        logits, state = engine.forward_each(text.tokens[start:end].tolist(), state)
        asked = text.counted[start + 1 : end + 1]
        logits = logits[asked]
        wanted = text.tokens[start + 1 : end + 1][asked]
        chosen = logits[np.arange(len(wanted)), wanted]
        top = logits.max(axis=1, initial=-np.inf)
        logits -= top[:, None]
        np.exp(logits, out=logits)
        nats += float(np.sum(np.log(logits.sum(axis=1, dtype=np.float64)) + top - chosen))
    return nats / math.log(2)
