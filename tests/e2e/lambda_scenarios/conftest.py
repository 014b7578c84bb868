"""The tiny model as one file, and functions that serve it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lambda_inference.gguf.convert import convert
from tests.fakes.aws_lambda import LambdaEmulator
from tests.lambda_inference.models import write_folder

ROOT = Path(__file__).parents[3]
FunctionMaker = Callable[..., LambdaEmulator]


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of 64, unquantized."""
    folder = write_folder(tmp_path_factory.mktemp("lambda") / "tiny")
    target = folder.parent / "tiny.gguf"
    convert(folder / "model.safetensors", target, quantization="F32", name="tiny")
    return target


@pytest.fixture
def friend(model_file: Path) -> FunctionMaker:
    """The real runtime on the tiny model; its arguments are a fault of faulty.py, if any."""

    def make(*fault: str | Path, environment: dict[str, str] | None = None, **more: Any) -> Any:
        module = "tests.e2e.lambda_scenarios.faulty" if fault else "lambda_inference.aws.runtime"
        variables = {"FRIEND_MODEL_FILE": str(model_file), "FRIEND_MODEL_THREADS": "1"}
        return LambdaEmulator(
            [sys.executable, "-m", module, *map(str, fault)],
            environment=variables | (environment or {}),
            cwd=ROOT,
            **more,
        )

    return make


@pytest.fixture
def toy() -> FunctionMaker:
    """The function without a model; arguments before the settings say how it starts."""

    def make(*start: str | Path, **more: Any) -> Any:
        command = [sys.executable, "-m", "tests.e2e.lambda_scenarios.toy", *map(str, start)]
        return LambdaEmulator(command, cwd=ROOT, **more)

    return make
