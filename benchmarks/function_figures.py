"""What a call of the function takes: the real runtime in the tests' Lambda emulator.

The environment is a process pinned to as many CPUs as it is given; times are those that Lambda
would bill (the emulator's report) and those that a client of the Function URL sees. A reply is 40
tokens long and has 60 new tokens of prompt.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from benchmarks.chat_models import REFERENCE
from inference_client import (
    AwsCredentials,
    ChatMessage,
    ClientSettings,
    InferenceClient,
    SamplingOptions,
    SigV4Auth,
)
from tests.fakes.aws_lambda import LambdaEmulator
from tests.fakes.aws_signature import AwsKeys

T = TypeVar("T")
PROMPT_TOKENS = 60
REPLY_TOKENS = 40
VCPU_MB = 1769
"""Memory that comes with one virtual CPU."""

_ROOT = Path(__file__).parents[1]
_KEYS = AwsKeys()
_TEMPLATE_TOKENS = 4  # end of text, two labels, separator
_TOO_LONG = 300.0  # seconds for anything; the slowest engine loads for ten
# A token each in the shipped vocabulary.
_WORDS = re.findall(
    r"\S+",
    "the and you that what have like this do not it is in was for but with are my me good know "
    "think just so can at be we one out see time how when all",
)
_DROP = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True)
class Call:
    """One reply. `first_token_s` as the client saw it, the rest as the function did; seconds."""

    first_token_s: float
    billed_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True)
class Start:
    """One cold start. `init_s` is billed too; `call` is the reply that waited for it."""

    init_s: float
    call: Call


@dataclass(frozen=True)
class Figures:
    """Medians of one engine, format and number of CPUs. Seconds and MB."""

    name: str
    cpus: int
    init_s: float
    cold_reply_s: float
    """Billed for the first reply, init left out."""
    reply_s: float
    """Billed for a reply of a warm environment."""
    prefill_s: float
    decode_s: float
    ping_s: float
    """Billed for a warm ping."""
    first_token_s: float
    """Of a warm environment, as the client sees it."""
    cold_first_token_s: float
    """From the start of the process."""
    memory_mb: float
    """What has to fit, in Lambda's MB of 1024 kB: the most that the process held of its own, and
    the model file where that is mapped."""


async def measure(name: str, model: Path, *, cpus: int = 1, starts: int = 3,
                  replies: int = 5) -> Figures:  # fmt: skip
    """Start the function so many times, then ask the last environment for so many replies.

    `name` is the model's in `chat_models`. Raises RuntimeError if a call is not what it should be.
    """
    begun: list[Start] = []
    for _ in range(starts):
        async with _function(name, model, cpus) as function:
            begun.append(await start(function))
            if len(begun) < starts:
                continue
            calls = [await ask(function, number) for number in range(1, replies + 1)]
            pings = [await _ping(function) for _ in range(max(5, replies))]
            own = max(report.used_mb for report in function.reports)
    return Figures(
        name=name,
        cpus=cpus,
        init_s=median(one.init_s for one in begun),
        cold_reply_s=median(one.call.billed_s for one in begun),
        reply_s=median(call.billed_s for call in calls),
        prefill_s=median(call.prefill_s for call in calls),
        decode_s=median(call.decode_s for call in calls),
        ping_s=median(pings),
        first_token_s=median(call.first_token_s for call in calls),
        cold_first_token_s=median(one.call.first_token_s for one in begun),
        memory_mb=own + _mapped_mb(model),
    )


async def cold_starts(
    name: str, model: Path, runs: int, *, dropped: bool, prompt: int = PROMPT_TOKENS
) -> list[Start]:
    """Cold starts on one CPU, from the page cache or (`dropped`) with nothing in it."""
    found = []
    for _ in range(runs):
        if dropped:
            drop_page_cache(model)
        async with _function(name, model, 1) as function:
            found.append(await start(function, prompt))
    return found


async def start(function: LambdaEmulator, prompt: int = PROMPT_TOKENS) -> Start:
    """The first reply of a function that has no environment yet."""
    call = await ask(function, 0, prompt)
    return Start(function.reports[-1].init_ms / 1000, call)


async def ask(function: LambdaEmulator, number: int, prompt: int = PROMPT_TOKENS) -> Call:
    """A streamed reply to a message of its own; messages of different numbers share nothing.

    `prompt`: tokens, those of the template included.
    """
    words = [_WORDS[(number + at * (number + 1)) % len(_WORDS)] for at in range(prompt)]
    message = ChatMessage("user", " ".join(words[_TEMPLATE_TOKENS:]))
    options = SamplingOptions(
        max_tokens=REPLY_TOKENS,
        seed=1,
        extra={"logit_bias": {str(n): -100 for n in range(4)}, "best_of": 1},
    )
    first: float | None = None
    async with client(function) as model:
        begun = time.perf_counter()
        async with model.stream([message], options) as reply:
            async for _ in reply:
                first = first or time.perf_counter() - begun
        usage, timings = reply.final.usage, reply.final.timings
    await function.settle()
    new = usage.prompt_tokens - usage.cached_tokens
    if (new, usage.completion_tokens) != (prompt, REPLY_TOKENS) or not (first and timings):
        raise RuntimeError(
            f"the reply had {new} new tokens of prompt and {usage.completion_tokens} of its own"
        )
    return Call(
        first,
        function.reports[-1].duration_ms / 1000,
        timings.prefill_ms / 1000,
        timings.decode_ms / 1000,
    )


def client(function: LambdaEmulator) -> InferenceClient:
    """A client that signs as the bot does, tries once, and waits long."""
    credentials = AwsCredentials(_KEYS.access_key, _KEYS.secret_key, _KEYS.session_token)
    auth = SigV4Auth(_KEYS.region, _KEYS.service, lambda: credentials)
    return InferenceClient(
        ClientSettings(
            base_url=function.url, model="synthetic", auth=auth, attempts=1,
            first_token_timeout=_TOO_LONG, between_tokens_timeout=_TOO_LONG,
            answer_timeout=_TOO_LONG, total_timeout=_TOO_LONG,
        )
    )  # fmt: skip


def _function(name: str, model: Path, cpus: int) -> LambdaEmulator:
    kind = "reference" if name == REFERENCE else "native"
    return function_of(
        model, {"FRIEND_MODEL_ENGINE": kind, "FRIEND_MODEL_THREADS": str(cpus)}, cpus=cpus
    )


def function_of(model: Path, variables: dict[str, str], *, cpus: int = 1) -> LambdaEmulator:
    """The real runtime on a model, pinned to so many CPUs."""
    return LambdaEmulator(
        [sys.executable, "-m", "lambda_inference.aws.runtime"],
        environment={"FRIEND_MODEL_FILE": str(model), "PYTHONWARNINGS": "ignore"} | variables,
        cwd=_ROOT,
        memory_mb=VCPU_MB * max(2, cpus),  # the rwkv package needs more than comes with one CPU
        cpus=cpus,
        timeout_s=_TOO_LONG,
        keys=_KEYS,
    )


async def _ping(function: LambdaEmulator) -> float:
    await function.invoke({"warm": True})
    await function.settle()
    return function.reports[-1].duration_ms / 1000


def _mapped_mb(model: Path) -> float:
    """The native engine maps its file; the `rwkv` package's folder is read and copied."""
    return model.stat().st_size / (1 << 20) if model.is_file() else 0.0


def drop_page_cache(model: Path) -> str:
    """Take files out of memory; says which: all there are (root, on Linux), or the model alone."""
    os.sync()
    try:
        _DROP.write_text("3")
    except OSError:
        with model.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return "the model file"
    return "every file that no running program holds"


def cpus_here() -> int:
    """CPUs of this machine that may be used."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def measure_all(names: Sequence[tuple[str, Path, int]], *, starts: int, replies: int
                ) -> list[Figures]:  # fmt: skip
    """`measure` for several (name, model, CPUs), in that order."""

    async def every() -> list[Figures]:
        return [
            await measure(name, model, cpus=cpus, starts=starts, replies=replies)
            for name, model, cpus in names
        ]

    return run(every())


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` that ends the environments when this process is told to stop, too."""

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        raise SystemExit(128 + signal.SIGTERM) from None
