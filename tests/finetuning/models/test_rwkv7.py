"""The parallel form, the recurrence and the `rwkv` package are one and the same model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from finetuning.models.rwkv7 import (
    CHUNK,
    RWKV7,
    RWKV7Shape,
    initialize,
    wkv7_chunked,
    wkv7_recurrent,
)
from finetuning.training.export import export_pth

HEADS, SIZE = 2, 64


def operands(time: int, *, fastest_decay: bool = False) -> list[Tensor]:
    torch.manual_seed(0)
    shape = (2, time, HEADS, SIZE)
    r, k, v = (torch.randn(shape) for _ in range(3))
    log_w = -0.6065 * torch.sigmoid(torch.randn(shape) * 2 + (8 if fastest_decay else 0))
    direction = torch.nn.functional.normalize(torch.randn(shape), dim=-1)
    rate = torch.rand(shape)
    state = torch.randn(2, HEADS, SIZE, SIZE)
    return [x.requires_grad_() for x in (r, log_w, k, v, -direction, direction * rate, state)]


def relative_error(wanted: Tensor, got: Tensor) -> float:
    return float((wanted - got).detach().norm() / wanted.detach().norm())


@pytest.mark.parametrize("fastest_decay", [False, True])
def test_parallel_form_equals_the_recurrence(fastest_decay: bool) -> None:
    inputs = operands(3 * CHUNK, fastest_decay=fastest_decay)
    y_weight, state_weight = torch.randn_like(inputs[0]), torch.randn_like(inputs[6])
    results = []
    for form in (wkv7_recurrent, wkv7_chunked):
        y, state = form(*inputs)
        total = (y * y_weight).sum() + (state * state_weight).sum()
        results.append((y, state, *torch.autograd.grad(total, inputs)))
    names = ("y", "state", "dr", "dlog_w", "dk", "dv", "da", "db", "dstate")
    for name, wanted, got in zip(names, *results, strict=True):
        assert relative_error(wanted, got) < 5e-6, name


def test_parallel_form_says_which_lengths_it_takes() -> None:
    with pytest.raises(ValueError, match=f"multiple of {CHUNK}"):
        wkv7_chunked(*operands(CHUNK + 1))


def test_reading_at_once_equals_reading_token_by_token(model: RWKV7) -> None:
    tokens = torch.randint(0, model.shape.vocab_size, (2, 2 * CHUNK))
    with torch.no_grad():
        at_once, state = model(tokens)
        stepped, one_by_one = [], None
        for t in range(tokens.shape[1]):
            logits, one_by_one = model(tokens[:, t : t + 1], one_by_one)
            stepped.append(logits)
    torch.testing.assert_close(torch.cat(stepped, dim=1), at_once, rtol=1e-4, atol=1e-4)
    assert one_by_one is not None
    for wanted, got in zip(one_by_one, state, strict=True):
        for wanted_part, got_part in zip(wanted, got, strict=True):
            torch.testing.assert_close(got_part, wanted_part, rtol=1e-4, atol=1e-4)


def test_a_state_carries_on_where_it_was(model: RWKV7) -> None:
    tokens = torch.randint(0, model.shape.vocab_size, (1, 3 * CHUNK))
    with torch.no_grad():
        whole, _ = model(tokens)
        _, state = model(tokens[:, :CHUNK])
        rest, _ = model(tokens[:, CHUNK:], state)
    torch.testing.assert_close(rest, whole[:, CHUNK:], rtol=1e-4, atol=1e-4)


_RWKV_PACKAGE = """
import json, os, sys
os.environ["RWKV_V7_ON"] = "1"
os.environ["RWKV_JIT_ON"] = "0"
from rwkv.model import RWKV
model = RWKV(sys.argv[1], "cpu fp32")
state, rows = None, []
for token in json.loads(sys.argv[2]):
    logits, state = model.forward([token], state)
    rows.append(logits.tolist())
print("\\n" + json.dumps(rows))
"""


def test_logits_equal_those_of_the_rwkv_package(model: RWKV7, tmp_path: Path) -> None:
    export_pth(model.state_dict(), tmp_path / "model.pth")
    tokens = torch.randint(0, model.shape.vocab_size, (CHUNK,)).tolist()
    output = subprocess.run(
        [sys.executable, "-c", _RWKV_PACKAGE, str(tmp_path / "model"), json.dumps(tokens)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    theirs = torch.tensor(json.loads(output.splitlines()[-1]))
    with torch.no_grad():
        ours, _ = model(torch.tensor([tokens]))
    assert float(ours.std()) > 0.1
    torch.testing.assert_close(ours[0], theirs, rtol=1e-4, atol=1e-4)


def test_initial_loss_is_that_of_a_uniform_guess() -> None:
    model = RWKV7(RWKV7Shape(layers=2, width=64, vocab_size=512))
    initialize(model, seed=0)
    tokens = torch.randint(0, 512, (4, 2 * CHUNK))
    with torch.no_grad():
        logits, _ = model(tokens)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
    assert float(loss) == pytest.approx(torch.log(torch.tensor(512.0)).item(), abs=0.6)


def test_initial_values_depend_on_the_seed_alone() -> None:
    models = [RWKV7(RWKV7Shape(layers=2, width=64, vocab_size=64)) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        initialize(model, seed=seed)
    same, again, other = (model.blocks[0].att.key.weight for model in models)
    assert torch.equal(same, again)
    assert not torch.equal(same, other)
