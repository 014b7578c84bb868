"""Checkpoints and converted files, made once a session.

FRIEND_NATIVE_MODULE names an extension to test instead of the installed one (run_sanitizers.sh).
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lambda_inference import checkpoints

if _module := os.environ.get("FRIEND_NATIVE_MODULE"):
    _spec = importlib.util.spec_from_file_location("lambda_inference._native", _module)
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["lambda_inference._native"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["lambda_inference._native"])

VOCAB = 512
SHAPES: dict[str, Callable[[], checkpoints.Weights]] = {
    # Three layers, three heads, the LoRA ranks of the 0.4B model.
    "rwkv7": lambda: checkpoints.rwkv7(layers=3, width=192, vocab=VOCAB),
    "rwkv4": lambda: checkpoints.rwkv4(layers=3, width=192, vocab=VOCAB),
    # Small heads, ranks that are no whole groups, an odd feed-forward width, one layer.
    "rwkv7-odd": lambda: checkpoints.rwkv7(
        layers=1, width=96, vocab=301, head=16, ffn=320, ranks=(24, 40, 8, 72), seed=2
    ),
    "rwkv4-odd": lambda: checkpoints.rwkv4(layers=1, width=96, vocab=301, ffn=352, seed=2),
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint (.pth) of a name in SHAPES, a tokenizer beside it."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            weights = SHAPES[name]()
            checkpoints.save_tokenizer(folder, weights["emb.weight"].shape[0])
            made[name] = checkpoints.save(weights, folder / "model.pth")
        return made[name]

    return get


@pytest.fixture(scope="session")
def model_file(checkpoint: Callable[[str], Path]) -> Callable[..., Path]:
    """The converted file of a name in SHAPES and a quantization."""
    from lambda_inference.gguf.convert import Quantization, convert

    def get(name: str, quantization: Quantization = "F32") -> Path:
        source = checkpoint(name)
        target = source.with_name(f"{quantization}.gguf")
        if not target.exists():
            convert(source, target, quantization=quantization)
        return target

    return get
