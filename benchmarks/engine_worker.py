"""One engine, one model file, one number of threads, in a process of its own.

A process of its own because peak memory and the time from process start are among the figures.
Prints one JSON object. `python -m benchmarks.engine_worker ENGINE FILE THREADS STARTED`; STARTED is
the clock (`time.time()`) just before the process was started.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

PROMPT = 256  # tokens of the prefill figure
DECODE = 24  # tokens of one decode run
RUNS = 3  # of each figure; the best one counts, for other programs only ever slow a run down


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    engine, file, threads, started = arguments
    opened = _ENGINES[engine](Path(file), int(threads))
    step, prompt = opened
    step(1)
    first = time.time() - float(started)
    print(json.dumps({"first_token_s": first} | _speed(step, prompt) | {"peak_mb": _peak_mb()}))


Step = Callable[[int], None]
"""Decode one token after the last."""
Prompt = Callable[[list[int]], None]
"""Start anew and take these tokens."""


def _speed(step: Step, prompt: Prompt) -> dict[str, float]:
    decode, prefill = 0.0, 0.0
    for _ in range(RUNS):
        times = []
        for token in range(DECODE):
            begin = time.perf_counter()
            step(1 + token)
            times.append(time.perf_counter() - begin)
        decode = max(decode, 1 / median(times))
        begin = time.perf_counter()
        prompt([1 + i % 1000 for i in range(PROMPT)])
        prefill = max(prefill, PROMPT / (time.perf_counter() - begin))
    return {"decode_tokens_s": decode, "prefill_tokens_s": prefill}


def _peak_mb() -> float:
    try:
        # Not ru_maxrss: on Linux that begins with the parent's size.
        status = Path("/proc/self/status").read_text("ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def _native(file: Path, threads: int) -> tuple[Step, Prompt]:
    from lambda_inference.engine.native import NativeEngine

    engine = NativeEngine(file, threads=threads)
    state: Any = None

    def step(token: int) -> None:
        nonlocal state
        _, state = engine.forward([token], state)

    def prompt(tokens: list[int]) -> None:
        nonlocal state
        _, state = engine.forward(tokens, None)

    return step, prompt


def _rwkv(strategy: str) -> Callable[[Path, int], tuple[Step, Prompt]]:
    def start(file: Path, threads: int) -> tuple[Step, Prompt]:
        os.environ.update(
            {"RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0", "RWKV_V7_ON": str(int("rwkv7" in file.name))}
        )
        import torch

        torch.set_num_threads(threads)
        with contextlib.redirect_stdout(io.StringIO()):
            from rwkv.model import RWKV

            model: Any = RWKV(str(file.with_suffix("")), strategy)
        state: Any = None

        def step(token: int) -> None:
            nonlocal state
            _, state = model.forward([token], state)

        def prompt(tokens: list[int]) -> None:
            nonlocal state
            _, state = model.forward(tokens, None)

        return step, prompt

    return start


def _llama(file: Path, threads: int) -> tuple[Step, Prompt]:
    from llama_cpp import Llama  # type: ignore[import-not-found,unused-ignore]

    model = Llama(
        str(file), n_threads=threads, n_threads_batch=threads, n_ctx=2048, verbose=False,
        logits_all=False, n_batch=512,
    )  # fmt: skip

    def step(token: int) -> None:
        model.eval([token])

    def prompt(tokens: list[int]) -> None:
        model.reset()
        model.eval(tokens)

    return step, prompt


_ENGINES: dict[str, Callable[[Path, int], tuple[Step, Prompt]]] = {
    "friend": _native,
    "rwkv fp32": _rwkv("cpu fp32"),
    "rwkv bf16": _rwkv("cpu bf16"),
    "llama.cpp": _llama,
}

if __name__ == "__main__":
    main(sys.argv[1:])
