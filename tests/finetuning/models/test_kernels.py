"""The C++ kernels compute what PyTorch does, gradients included, on every instruction set here."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from finetuning.models import kernels, rwkv7
from finetuning.models.rwkv7 import CHUNK, RWKV7, RWKV7Shape, initialize, wkv7_recurrent

ISAS = kernels._kernels.supported_isas()
NAMES = ("y", "state", "dr", "dlog_w", "dk", "dv", "da", "db", "dstate")


def operands(time: int, heads: int, size: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    shape = (2, time, heads, size)
    r, k, v = (normal(*shape) for _ in range(3))
    log_w = -0.6065 * torch.sigmoid(normal(*shape) * 2)
    direction = torch.nn.functional.normalize(normal(*shape), dim=-1)
    rate = torch.sigmoid(normal(*shape))
    inputs = (r, log_w, k, v, -direction, direction * rate, normal(2, heads, size, size))
    return [x.to(dtype).requires_grad_() for x in inputs]


def relative_error(wanted: Tensor, got: Tensor) -> float:
    return float(((wanted - got).norm() / wanted.norm()).detach())


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("time", "heads", "size"),
    [(3 * CHUNK, 2, 64), (37, 3, 64), (1, 1, 64), (21, 2, 32), (9, 1, 48)],
)
def test_recurrence_and_gradient_equal_the_definition_in_float64(
    time: int, heads: int, size: int, isa: str
) -> None:
    wanted, got = (
        operands(time, heads, size, torch.float64),
        operands(time, heads, size, torch.float32),
    )
    results = []
    for form, inputs in (
        (wkv7_recurrent, wanted),
        (lambda *x: kernels._by_kernels(*x, isa=isa), got),
    ):
        y, state = form(*inputs)
        total = y.sin().sum() + state.cos().sum()
        results.append((y, state, *torch.autograd.grad(total, inputs)))
    for name, one, other in zip(NAMES, *results, strict=True):
        assert relative_error(one, other) < 1e-5, name


@pytest.mark.parametrize("size", [4, 12])
def test_odd_sizes_of_heads_run_on_narrower_vectors(size: int) -> None:
    for one, other in zip(
        wkv7_recurrent(*operands(5, 2, size, torch.float64)),
        kernels._by_kernels(*operands(5, 2, size, torch.float32)),
        strict=True,
    ):
        assert relative_error(one, other) < 1e-5


@pytest.mark.parametrize("which", range(7))
def test_any_input_alone_may_need_a_gradient(which: int) -> None:
    """As in state tuning, where only the state does."""
    inputs = [x.detach() for x in operands(20, 2, 64, torch.float32)]
    inputs[which].requires_grad_()
    gradients = []
    for form in (wkv7_recurrent, kernels._by_kernels):
        y, _ = form(*inputs)
        gradients.append(torch.autograd.grad(y.square().sum(), inputs[which])[0])
    assert relative_error(*gradients) < 1e-5


def test_a_gradient_may_come_through_the_last_state_alone() -> None:
    inputs = operands(20, 2, 64, torch.float32)
    gradients = []
    for form in (wkv7_recurrent, kernels._by_kernels):
        _, last = form(*inputs)
        gradients.append(torch.autograd.grad(last.square().sum(), inputs[1:]))
    for one, other in zip(*gradients, strict=True):
        assert relative_error(one, other) < 1e-5


def test_wrong_shapes_and_unknown_instruction_sets_are_refused() -> None:
    inputs = [x.detach() for x in operands(20, 2, 64, torch.float32)]
    with pytest.raises(ValueError, match=r"k must be \[2, 20, 2, 64\]"):
        kernels._by_kernels(*inputs[:2], inputs[2][:, 1:], *inputs[3:])
    with pytest.raises(ValueError, match="mmx"):
        kernels._by_kernels(*inputs, isa="mmx")


def learnt(model: RWKV7, tokens: Tensor) -> list[Tensor]:
    hidden, _ = model.hidden(tokens)
    return list(
        torch.autograd.grad(hidden.sin().sum(), list(model.parameters()), allow_unused=True)
    )


@pytest.fixture
def model() -> RWKV7:
    model = RWKV7(RWKV7Shape(layers=2, width=128, vocab_size=64))
    initialize(model, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    return model


def test_threads_side_by_side_get_the_bits_that_one_gets(model: RWKV7) -> None:
    batches = torch.randint(0, 64, (8, 2, CHUNK), generator=torch.Generator().manual_seed(2))
    alone = [learnt(model, tokens) for tokens in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda tokens: learnt(model, tokens), batches))
    for one, other in zip(alone, together, strict=True):
        for x, y in zip(one, other, strict=True):
            assert x is y is None or torch.equal(x, y)


def test_a_model_learns_the_same_with_the_kernels_and_without(
    model: RWKV7, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = torch.randint(0, 64, (2, CHUNK), generator=torch.Generator().manual_seed(2))
    assert kernels.on()
    by_kernels = learnt(model, tokens)
    monkeypatch.setenv(kernels.SWITCH, "0")
    assert not kernels.on()
    for one, other in zip(learnt(model, tokens), by_kernels, strict=True):
        assert one is other is None or relative_error(one, other) < 1e-4


def test_they_are_left_alone_where_they_were_not_built_or_do_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    floats = torch.ones(1, 1, 1, 64)
    assert kernels.native_wkv7(floats) is not None
    assert kernels.native_wkv7(floats.double()) is None
    assert kernels.native_wkv7(floats[..., :6]) is None
    monkeypatch.setattr(kernels, "_kernels", None)
    assert kernels.native_wkv7(floats) is None


def bits(x: Tensor) -> Tensor:
    return x.view(torch.int16 if x.dtype == torch.bfloat16 else torch.int32)


@pytest.mark.parametrize(
    ("isa", "width"), [*((isa, 64) for isa in ISAS), ("baseline", 20), ("", 24)]
)
@pytest.mark.parametrize("narrow", [False, True])
def test_mixes_and_their_gradients_equal_pytorchs(isa: str, width: int, narrow: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 7, width), (2, width), *[(1, 1, width)] * 6]
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    goals = [torch.randn(2, 7, width, generator=generator) for _ in range(6)]
    dtype = torch.bfloat16 if narrow else torch.float32

    def plain(x: Tensor, last: Tensor, weights: list[Tensor]) -> list[Tensor]:
        step = torch.cat((last.unsqueeze(1), x[:, :-1]), dim=1) - x
        return [(x + step * weight).to(dtype) for weight in weights]

    results = []
    for form in (plain, lambda *given: kernels._mixes(*given, isa=isa)):
        given = [x.clone().requires_grad_() for x in inputs]
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            mixed = form(given[0], given[1], given[2:])
        assert {x.dtype for x in mixed} == {dtype}
        total = sum((x.float() * goal).sum() for x, goal in zip(mixed, goals, strict=True))
        results.append((*(x.float() for x in mixed), *torch.autograd.grad(total, given)))
    for index, (one, other) in enumerate(zip(*results, strict=True)):
        assert relative_error(one, other) < (5e-4 if narrow and index < 6 else 2e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relu_square_is_pytorchs_to_the_bit(dtype: torch.dtype, isa: str) -> None:
    x, goal = torch.randn(2, 3, 5, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    results = []
    for form in (lambda x: torch.relu(x).square(), lambda x: kernels._relu_square(x, isa)):
        given = x.clone().requires_grad_()
        y = form(given)
        results.append((y, *torch.autograd.grad(y, given, goal)))
    for one, other in zip(*results, strict=True):
        assert torch.equal(bits(one.abs()), bits(other.abs()))


def test_arrays_of_another_type_are_refused() -> None:
    x = torch.ones(1, 2, 64)
    with pytest.raises(TypeError, match="bfloat16"):
        kernels._kernels.relu_square_forward(x.double(), x)
    with pytest.raises(TypeError, match="one type"):
        kernels._kernels.relu_square_forward(x, x.bfloat16())
    with pytest.raises(ValueError, match=r"last must be \[1, 64\]"):
        kernels._kernels.mix_forward(x, x[0], x[0, :1], [x])


@pytest.mark.parametrize(("isa", "size"), [*((isa, 64) for isa in ISAS), ("", 8)])
@pytest.mark.parametrize("no_keys", [False, True])
def test_operands_and_their_gradients_equal_pytorchs(
    isa: str, size: int, no_keys: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 5, 3, size)] * 3 + [(1, 1, 3 * size)] * 4
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    if no_keys:
        inputs[0] *= 0
    goals = torch.randn(4, 2, 5, 3, size, generator=generator)
    monkeypatch.setenv(kernels.SWITCH, "0")

    def by_kernels(k: Tensor, w: Tensor, a: Tensor, vectors: list[Tensor]) -> Sequence[Tensor]:
        return kernels._operands(k, w, a, vectors, rwkv7._LOG_DECAY_SCALE, isa)

    results = []
    for form, dtype in ((rwkv7.operands, torch.float64), (by_kernels, torch.float32)):
        given = [x.to(dtype).requires_grad_() for x in inputs]
        made = form(*given[:3], given[3:])
        total = sum((x * goal).sum() for x, goal in zip(made, goals, strict=True))
        results.append((*made, *torch.autograd.grad(total, given)))
    for one, other in zip(*results, strict=True):
        assert torch.equal(other, one.float()) or relative_error(one, other) < 2e-6
