"""Bits of conversations by a model in PyTorch: the float weights, before any quantization."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from finetuning.evaluation.score import Done, Spelled, by_length
from finetuning.models.rwkv7 import CHUNK
from finetuning.models.weights import Model, model_from
from lambda_inference.engine.cpus import cpus_given
from lambda_inference.gguf.checkpoint import open_checkpoint

_TOKENS_AT_ONCE = 1024
_ROWS = 512  # logits at once


def load_model(weights: Path) -> Model:
    """The model of a checkpoint, in float32 on the CPU.

    Raises:
        CheckpointError: a tensor is missing, has another shape or is not finite.
        ModelError: the file cannot be read.
    """
    return model_from(open_checkpoint(weights)).eval()


def bits_by_torch(
    model: Model,
    texts: Sequence[Spelled],
    done: Done = lambda _: None,
    *,
    threads: int | None = None,
) -> list[float]:
    """Bits of the counted tokens of each conversation, in float32 on the model's device.

    As many small batches at a time as there are `threads` (None: the CPUs given), each on one
    thread: threads that share a small product mostly wait for each other.
    """
    count = threads or cpus_given()
    bits = [0.0] * len(texts)
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        chunks = list(_chunks(texts))
        running = [pool.submit(_score, model, [texts[one] for one in chunk]) for chunk in chunks]
        try:
            for chunk, future in zip(chunks, running, strict=True):
                for index, found in zip(chunk, future.result(), strict=True):
                    bits[index] = found
                    done(len(texts[index].tokens))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return bits


@torch.inference_mode()
def _score(model: Model, texts: Sequence[Spelled]) -> list[float]:
    longest = max(len(text.tokens) for text in texts)
    inputs = torch.zeros(len(texts), math.ceil(longest / CHUNK) * CHUNK, dtype=torch.int64)
    for row, text in zip(inputs, texts, strict=True):
        row[: len(text.tokens)] = torch.from_numpy(text.tokens)
    device = model.emb.weight.device
    hidden, _ = model.hidden(inputs.to(device))
    bits: list[float] = []
    for row, text in enumerate(texts):
        asked = torch.from_numpy(text.counted.nonzero()[0])
        wanted = inputs[row, asked].to(device)
        nats = _nats(hidden[row, (asked - 1).to(device)], model.head.weight, wanted)
        bits.append(nats / math.log(2))
    return bits


def _chunks(texts: Sequence[Spelled]) -> Iterator[list[int]]:
    """Indices of conversations of like length, so that little is padding."""
    chunk: list[int] = []
    for index in by_length(texts):
        longest = len(texts[chunk[0]].tokens) if chunk else 0
        if chunk and longest * (len(chunk) + 1) > _TOKENS_AT_ONCE:
            yield chunk
            chunk = []
        chunk.append(index)
    if chunk:
        yield chunk


def _nats(hidden: Tensor, head: Tensor, wanted: Tensor) -> float:
    """Surprise at `wanted` [n], summed. Args: hidden [n, C]; head [vocabulary, C]."""
    total = 0.0
    for start in range(0, len(wanted), _ROWS):
        rows = slice(start, start + _ROWS)
        logits = hidden[rows] @ head.t()
        chosen = logits.gather(1, wanted[rows].unsqueeze(1)).squeeze(1)
        total += float((logits.logsumexp(-1) - chosen).double().sum())
    return total
