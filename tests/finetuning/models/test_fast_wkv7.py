"""The seam to faster kernels: right layouts, only on a GPU, and a switch to leave it alone.

A GPU is not at hand everywhere, so a stand-in for the package `fla`, with its signature and its
layout of the state, is put in its place; with a GPU and the package, the kernel itself is compared.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from finetuning.models import fast_wkv7
from finetuning.models.rwkv7 import CHUNK, wkv7_chunked

FAKE = """
from finetuning.models.rwkv7 import wkv7_recurrent

def chunk_rwkv7(r, w, k, v, a, b, scale=1.0, initial_state=None, output_final_state=False):
    assert scale == 1.0 and output_final_state and initial_state.is_contiguous()
    y, state = wkv7_recurrent(r, w, k, v, a, b, initial_state.transpose(-1, -2))
    return y, state.transpose(-1, -2)
"""


def operands(device: str = "cpu") -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    shape = (2, 2 * CHUNK, 2, 64)
    r, k, v = (normal(*shape) for _ in range(3))
    log_w = -0.6065 * torch.sigmoid(normal(*shape))
    direction = torch.nn.functional.normalize(normal(*shape), dim=-1)
    rate = torch.sigmoid(normal(*shape))
    inputs = (r, log_w, k, v, -direction, direction * rate, normal(2, 2, 64, 64))
    return [x.to(device).requires_grad_() for x in inputs]


def compare(device: str, tolerance: float) -> None:
    inputs = operands(device)
    results = []
    for form in (wkv7_chunked, fast_wkv7._by_fla):
        y, state = form(*inputs)
        total = y.sin().sum() + state.sin().sum()
        results.append((y, state, *torch.autograd.grad(total, inputs)))
    for wanted, got in zip(*results, strict=True):
        assert float(((wanted - got).norm() / wanted.norm()).detach()) < tolerance


@pytest.fixture
def fla(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "fla" / "ops" / "rwkv7"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(tmp_path))
    fast_wkv7._kernel.cache_clear()
    yield
    fast_wkv7._kernel.cache_clear()


@pytest.mark.usefixtures("fla")
def test_the_kernel_gets_and_gives_the_state_in_its_own_layout() -> None:
    compare("cpu", 1e-5)


@pytest.mark.usefixtures("fla")
def test_it_is_taken_on_a_gpu_only_and_can_be_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        is_cuda = True

    assert fast_wkv7.fast_wkv7(torch.ones(1)) is None
    assert fast_wkv7.fast_wkv7(OnGpu()) is fast_wkv7._by_fla  # type: ignore[arg-type]
    monkeypatch.setenv(fast_wkv7.SWITCH, "0")
    assert fast_wkv7.fast_wkv7(OnGpu()) is None  # type: ignore[arg-type]


@pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("fla") is None,
    reason="needs a GPU and the package fla",
)
def test_the_real_kernel_computes_the_same() -> None:
    compare("cuda", 1e-2)
