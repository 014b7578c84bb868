"""RWKV-4: the scan, the recurrence and the `rwkv` package are one and the same model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from finetuning.models.rwkv4 import (
    NOTHING_READ,
    RWKV4,
    LayerState,
    RWKV4Shape,
    initialize,
    wkv4_recurrent,
    wkv4_scan,
)
from finetuning.training.export import export_pth
from tests.lambda_inference.checkpoints import rwkv4 as random_checkpoint

torch.set_num_threads(1)  # on tensors this small a second thread only waits

SHAPE = RWKV4Shape(layers=3, width=32, vocab_size=90)
CHANNELS = 24
NAMES = ("w", "u", "k", "v", "aa", "bb", "pp")


@pytest.fixture
def model() -> RWKV4:
    """Weights on a trained model's scale, zero nowhere."""
    model = RWKV4(SHAPE)
    numbers = random_checkpoint(layers=SHAPE.layers, width=SHAPE.width, vocab=SHAPE.vocab_size)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in numbers.items()})
    return model.eval()


def operands(time: int, *, spread: float = 2.0, fresh: bool = False, seed: int = 0) -> list[Tensor]:
    """Decays from next to none (e^-6) to next to all (e^3) a step, as in real checkpoints."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    w = torch.linspace(-6, 3, CHANNELS).exp()
    u, k, v = normal(CHANNELS), normal(2, time, CHANNELS) * spread, normal(2, time, CHANNELS)
    aa, bb, pp = normal(2, CHANNELS), normal(2, CHANNELS).exp(), normal(2, CHANNELS) * spread
    if fresh:
        aa, bb = torch.zeros_like(aa), torch.zeros_like(bb)
        pp = torch.full_like(pp, NOTHING_READ)
    return [x.requires_grad_() for x in (w, u, k, v, aa, bb, pp)]


def y_and_read(results: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """The outputs, and the final sums as another token would read them.

    The sums themselves do not compare: a e^p is one number, its parts are a matter of choice.
    """
    y, aa, bb, pp = results
    key = torch.linspace(-1, 1, CHANNELS)
    weight, own = ((x - torch.maximum(pp, key)).exp() for x in (pp, key))
    return y, (weight * aa + own) / (weight * bb + own)


def outputs_and_gradients(form: object, inputs: list[Tensor]) -> dict[str, Tensor]:
    """Of one of the two forms."""
    assert callable(form)
    y, read = y_and_read(form(*inputs))
    chance = torch.Generator().manual_seed(5)
    total = (y * torch.randn(y.shape, generator=chance)).sum()
    total = total + (read * torch.randn(read.shape, generator=chance)).sum()
    gradients = torch.autograd.grad(total, inputs)
    return {
        "y": y.detach(),
        "state": read.detach(),
        **dict(zip(NAMES, gradients, strict=True)),
    }


def double(inputs: list[Tensor]) -> list[Tensor]:
    return [x.detach().double().requires_grad_() for x in inputs]


@pytest.mark.parametrize("time", [1, 2, 3, 16, 31, 257])
@pytest.mark.parametrize("fresh", [False, True])
def test_scan_equals_the_recurrence(time: int, fresh: bool) -> None:
    inputs = operands(time, fresh=fresh)
    wanted = outputs_and_gradients(wkv4_recurrent, double(inputs))
    got = outputs_and_gradients(wkv4_scan, inputs)
    for name, value in got.items():
        scale = max(1.0, float(wanted[name].abs().max()))
        error = float((wanted[name] - value).abs().max()) / scale
        assert error < 1e-5, (name, error)


@given(
    st.integers(0, 10_000),
    st.integers(1, 40),
    st.sampled_from([0.1, 1.0, 10.0, 60.0]),
    st.booleans(),
)
@settings(max_examples=40)
def test_scan_is_as_exact_as_the_recurrence_for_any_keys(
    seed: int, time: int, spread: float, fresh: bool
) -> None:
    """Against float64, with exponents up to about 200: no overflow, no worse than step by step.

    At 200 neighbours in float32 are 1.5e-5 apart, so no form can have exact factors there.
    """
    inputs = operands(time, spread=spread, fresh=fresh, seed=seed)
    exact = outputs_and_gradients(wkv4_recurrent, double(inputs))
    stepped = outputs_and_gradients(wkv4_recurrent, inputs)
    scanned = outputs_and_gradients(wkv4_scan, inputs)
    for name, wanted in exact.items():
        assert torch.isfinite(scanned[name]).all(), name
        scale = max(1.0, float(wanted.abs().max()))
        step_error, scan_error = (
            float((wanted - got[name]).abs().max()) / scale for got in (stepped, scanned)
        )
        allowed = max(1e-5, 1e-6 * spread, 4 * step_error)
        assert scan_error < allowed, (name, scan_error, step_error)


def test_gradients_are_those_of_finite_differences() -> None:
    inputs = double(operands(5))
    assert torch.autograd.gradcheck(lambda *x: y_and_read(wkv4_scan(*x)), inputs)


def test_reading_at_once_equals_reading_token_by_token(model: RWKV4) -> None:
    tokens = torch.randint(0, SHAPE.vocab_size, (2, 37))
    with torch.no_grad():
        at_once, state = model(tokens)
        stepped, one_by_one = [], None
        for t in range(tokens.shape[1]):
            logits, one_by_one = model(tokens[:, t : t + 1], one_by_one)
            stepped.append(logits)
        assert one_by_one is not None
        torch.testing.assert_close(torch.cat(stepped, dim=1), at_once, rtol=1e-4, atol=1e-4)
        following = torch.randint(0, SHAPE.vocab_size, (2, 9))
        one, other = (model(following, before)[0] for before in (state, one_by_one))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_gradients_of_the_model_equal_those_of_the_recurrence(
    model: RWKV4, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = torch.randint(0, SHAPE.vocab_size, (2, 33))

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        logits, _ = model(tokens[:, :-1])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters()}

    scanned = gradients()
    monkeypatch.setattr("finetuning.models.rwkv4.wkv4_scan", wkv4_recurrent)
    for name, wanted in gradients().items():
        assert float(wanted.norm()) > 0, name
        assert float((wanted - scanned[name]).norm() / wanted.norm()) < 1e-4, name


def test_recomputing_changes_nothing_but_memory(model: RWKV4) -> None:
    tokens = torch.randint(0, SHAPE.vocab_size, (2, 12))
    results = []
    for model.recompute in (False, True):
        model.zero_grad()
        logits, _ = model(tokens)
        logits.square().sum().backward()
        results.append([weight.grad.clone() for weight in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


_RWKV_PACKAGE = """
import json, os, sys
os.environ["RWKV_JIT_ON"] = "0"
from rwkv.model import RWKV
model = RWKV(sys.argv[1], "cpu fp32")
state, rows = None, []
for token in json.loads(sys.argv[2]):
    logits, state = model.forward([token], state)
    rows.append(logits.tolist())
print("\\n" + json.dumps([rows, [part.tolist() for part in state]]))
"""


@pytest.mark.reference
def test_logits_equal_those_of_the_rwkv_package(model: RWKV4, tmp_path: Path) -> None:
    pytest.importorskip("rwkv")
    export_pth(model.state_dict(), tmp_path / "model.pth")
    tokens = torch.randint(0, SHAPE.vocab_size, (20,)).tolist()
    environment = {key: value for key, value in os.environ.items() if key != "RWKV_V7_ON"}
    output = subprocess.run(
        [sys.executable, "-c", _RWKV_PACKAGE, str(tmp_path / "model"), json.dumps(tokens)],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    ).stdout
    rows, parts = json.loads(output.splitlines()[-1])
    with torch.no_grad():
        ours, state = model(torch.tensor([tokens]))
    assert float(ours.std()) > 0.1
    torch.testing.assert_close(ours[0], torch.tensor(rows), rtol=1e-4, atol=1e-4)
    theirs = [
        LayerState(*(torch.tensor(part).unsqueeze(0) for part in parts[5 * n : 5 * n + 5]))
        for n in range(SHAPE.layers)
    ]
    with torch.no_grad():
        following = [model(torch.tensor([[7]]), before)[0] for before in (state, theirs)]
    torch.testing.assert_close(*following, rtol=1e-4, atol=1e-4)


def test_initial_loss_is_that_of_a_uniform_guess_and_falls() -> None:
    model = RWKV4(RWKV4Shape(layers=2, width=32, vocab_size=64))
    initialize(model, seed=0)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 64, (1, 20), generator=generator).repeat(4, 2)

    def loss() -> Tensor:
        logits, _ = model(tokens[:, :-1])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    first = loss().detach()
    assert float(first) == pytest.approx(torch.log(torch.tensor(64.0)).item(), abs=0.6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert float(loss().detach()) < 0.5 * float(first)


def test_initial_values_depend_on_the_seed_alone() -> None:
    models = [RWKV4(RWKV4Shape(layers=2, width=16, vocab_size=40)) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        initialize(model, seed=seed)
    same, again, other = (model.blocks[0].att.value.weight for model in models)
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_the_shape_is_read_from_a_checkpoint(model: RWKV4) -> None:
    weights = model.state_dict()
    assert RWKV4Shape.of(weights) == SHAPE
    del weights["blocks.0.att.time_decay"]
    with pytest.raises(KeyError, match=r"blocks\.0\.att\.time_decay"):
        RWKV4Shape.of(weights)
