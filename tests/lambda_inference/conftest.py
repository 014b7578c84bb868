"""The tiny model, its parts, and a real server around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lambda_inference.gguf.convert import convert
from lambda_inference.model import describe
from lambda_inference.serving.host import LoadedModel, load_model
from lambda_inference.settings import ModelSettings
from tests.lambda_inference.models import write_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as the trainer writes it."""
    return write_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def model_file(folder: Path) -> Path:
    """The same as one file, unquantized."""
    target = folder.parent / "tiny.gguf"
    convert(folder / "model.safetensors", target, quantization="F32", name="tiny")
    return target


@pytest.fixture(scope="session")
def loaded(model_file: Path) -> LoadedModel:
    """The model, loaded; its state cache is shared by the session."""
    return load_model(ModelSettings(file=str(model_file), threads=1), state_cache_bytes=32 << 20)


@pytest.fixture(scope="session")
def endless(folder: Path) -> dict[str, Any]:
    """Fields of a request whose reply never ends by itself: no end, no blank line, no label."""
    tokenizer = describe(folder).tokenizer()
    ends = [
        token
        for token in range(tokenizer.vocab_size)
        if token == 0 or {*b"\n:"} & {*tokenizer.token_bytes(token)}
    ]
    return {
        "messages": [{"role": "user", "content": "hello there"}],
        "logit_bias": {str(token): -100 for token in ends},
        "max_tokens": 10**6,
    }


@dataclass(frozen=True)
class RunningServer:
    """`python -m lambda_inference serve` in a process of its own."""

    url: str
    process: subprocess.Popen[str]


@contextmanager
def running(model: Path, *arguments: str, **environment: str) -> Iterator[RunningServer]:
    """Start the real server on a free port; it goes when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lambda_inference", "serve", "--port", "0", "--announce",
         "--exit-with-stdin", "--threads", "1", "--model", str(model), *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        if not line:
            pytest.fail(f"the server did not start: {process.stderr.read()}")
        yield RunningServer(json.loads(line)["url"], process)
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=30)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()


@pytest.fixture(scope="module")
def server(model_file: Path) -> Iterator[RunningServer]:
    """One server for a module's tests."""
    with running(model_file) as started:
        yield started
