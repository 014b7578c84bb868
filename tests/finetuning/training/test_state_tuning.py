"""A learnt start: learns alone, fits into one small file, and is refused by every other model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from finetuning.errors import CheckpointError
from finetuning.models.rwkv4 import RWKV4, RWKV4Shape
from finetuning.models.rwkv7 import CHUNK, RWKV7, RWKV7Shape
from finetuning.training.export import export_pth
from finetuning.training.state_tuning import FAINT, StateTuned, fingerprint, load_state, save_state
from tests.lambda_inference.checkpoints import rwkv4, rwkv7

torch.set_num_threads(1)  # on tensors this small a second thread only waits

VOCABULARY = 64
Model = RWKV4 | RWKV7


def make(generation: str, *, layers: int = 2, seed: int = 1) -> Model:
    if generation == "4":
        model: Model = RWKV4(RWKV4Shape(layers, 32, VOCABULARY))
        numbers = rwkv4(layers=layers, width=32, vocab=VOCABULARY, seed=seed)
    else:
        model = RWKV7(RWKV7Shape(layers, 32, VOCABULARY, head_size=16))
        ranks = (32, 32, 32, 32)
        numbers = rwkv7(layers=layers, width=32, vocab=VOCABULARY, head=16, ranks=ranks, seed=seed)
    weights = {name: torch.from_numpy(value) for name, value in numbers.items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.startswith("blocks.0.att.v") for name in missing)
    with torch.no_grad():
        for name in missing:  # in no checkpoint, and without effect
            model.get_parameter(name).zero_()
    return model.eval()


@pytest.fixture(params=["4", "7"])
def generation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def text() -> Tensor:
    """Three rows that say the same: a voice."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, VOCABULARY, (1, CHUNK + 1), generator=generator).repeat(3, 1)


def loss(model: nn.Module) -> Tensor:
    logits, _ = model(text()[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), text()[:, 1:].flatten())


def learn(tuned: StateTuned, steps: int = 25) -> None:
    weights = [weight for weight in tuned.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(tuned).backward()
        optimizer.step()


def logits(model: nn.Module, tokens: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(text()[:1, :-1] if tokens is None else tokens)[0]
    return result


def test_the_loss_falls_and_no_weight_moves(generation: str) -> None:
    model = make(generation)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    tuned = StateTuned(model)
    trainable = [name for name, weight in tuned.named_parameters() if weight.requires_grad]
    assert trainable
    assert all(name.startswith("learnt.") for name in trainable)
    first = {name: weight.detach().clone() for name, weight in tuned.learnt.named_parameters()}
    first_loss = float(loss(tuned).detach())

    learn(tuned)

    assert float(loss(tuned).detach()) < 0.9 * first_loss
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in before.items())
    assert all(weight.grad is None for weight in model.parameters())
    for name, weight in tuned.learnt.named_parameters():
        assert not torch.equal(weight.detach(), first[name]), name


def test_learning_starts_near_the_untuned_model(generation: str) -> None:
    model = make(generation)
    error = (logits(StateTuned(model)) - logits(model)).norm() / logits(model).norm()
    assert float(error) < (1e-6 if generation == "7" else 0.15)


def test_learning_may_start_from_what_a_text_left_behind(generation: str) -> None:
    model = make(generation)
    with torch.no_grad():
        _, state = model(text()[:1, : CHUNK // 2])
    tuned = StateTuned(model, state)
    kept = [
        (layer.wkv, start.wkv)
        if generation == "7"
        else (layer.aa * layer.pp.exp(), start.aa * start.pp.exp())
        for layer, start in zip(state, tuned.new_state(1), strict=True)
    ]
    for wanted, got in kept:
        torch.testing.assert_close(got.detach(), wanted, rtol=1e-4, atol=1e-6)


def test_a_saved_state_comes_back_and_is_small(generation: str, tmp_path: Path) -> None:
    model = make(generation)
    tuned = StateTuned(model)
    learn(tuned)
    save_state(tuned, tmp_path / "voice.safetensors")
    assert (tmp_path / "voice.safetensors").stat().st_size < 6000
    assert [path.name for path in tmp_path.glob("voice*")] == ["voice.safetensors"]

    again = load_state(tmp_path / "voice.safetensors", make(generation))

    assert not torch.allclose(logits(tuned), logits(model), atol=0.05)
    torch.testing.assert_close(logits(again), logits(tuned), rtol=5e-3, atol=2e-2)
    assert fingerprint(again.model.state_dict()) == fingerprint(model.state_dict())


@pytest.mark.reference
def test_an_engine_goes_on_from_the_saved_state(generation: str, tmp_path: Path) -> None:
    """The file's tensors are, as they stand, the state of the `rwkv` package."""
    pytest.importorskip("rwkv")
    from lambda_inference.engine.reference import ReferenceEngine, ReferenceState

    model = make(generation)
    tuned = StateTuned(model)
    learn(tuned)
    save_state(tuned, tmp_path / "voice.safetensors")
    export_pth(model.state_dict(), tmp_path / "model.pth")
    saved = load_file(tmp_path / "voice.safetensors")
    order = ("time_shift", "wkv", "channel_shift")
    if generation == "4":
        order = ("time_shift", "aa", "bb", "pp", "channel_shift")
    none = torch.zeros(32)
    parts = [saved.get(f"blocks.{n}.{name}", none).float() for n in range(2) for name in order]
    engine = ReferenceEngine(tmp_path / "model.pth", threads=1)
    tokens = text()[0, :9].tolist()

    got, _ = engine.forward(tokens, ReferenceState(parts))

    loaded = load_state(tmp_path / "voice.safetensors", model)
    wanted = logits(loaded, torch.tensor([tokens]))[0, -1]
    torch.testing.assert_close(torch.from_numpy(got), wanted, rtol=1e-3, atol=1e-3)


@pytest.fixture
def saved(generation: str, tmp_path: Path) -> Path:
    path = tmp_path / "voice.safetensors"
    save_state(StateTuned(make(generation)), path)
    return path


def test_another_model_refuses_it(generation: str, saved: Path) -> None:
    with pytest.raises(CheckpointError, match="other weights of the same shape"):
        load_state(saved, make(generation, seed=2))
    with pytest.raises(CheckpointError, match=r"another shape: .*\"layers\": 2.*\"layers\": 3"):
        load_state(saved, make(generation, layers=3))
    with pytest.raises(CheckpointError, match="another shape: rwkv"):
        load_state(saved, make("7" if generation == "4" else "4"))


def test_files_that_are_no_learnt_state_say_so(generation: str, saved: Path) -> None:
    model = make(generation)
    with pytest.raises(CheckpointError, match="There is no learnt state"):
        load_state(saved.with_name("none.safetensors"), model)
    whole = saved.read_bytes()
    for damaged in (b"", b"not a state", whole[:-20]):
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="cannot be read as a learnt state"):
            load_state(saved, model)
    save_file({"x": torch.zeros(1)}, saved)
    with pytest.raises(CheckpointError, match="no learnt state of this program"):
        load_state(saved, model)


def test_a_tampered_state_is_refused(generation: str, saved: Path) -> None:
    from safetensors import safe_open

    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(saved)
    first = next(iter(tensors))
    changes: list[Any] = [
        {name: part for name, part in tensors.items() if name != first},
        {**tensors, first: tensors[first][:-1].contiguous()},
        {**tensors, first: torch.full_like(tensors[first], torch.nan)},
    ]
    for change in changes:
        save_file(change, saved, metadata=metadata)
        with pytest.raises(CheckpointError, match="is damaged"):
            load_state(saved, make(generation))


def test_a_state_that_went_astray_is_not_saved(generation: str, tmp_path: Path) -> None:
    tuned = StateTuned(make(generation))
    with torch.no_grad():
        next(iter(tuned.learnt.parameters())).fill_(torch.inf)
    with pytest.raises(CheckpointError, match="Lower --peak-rate"):
        save_state(tuned, tmp_path / "voice.safetensors")
    assert list(tmp_path.glob("voice*")) == []


def test_the_fingerprint_is_that_of_the_exported_weights() -> None:
    weights = make("7").state_dict()
    half = {name: weight.half() for name, weight in weights.items()}
    assert fingerprint(weights) == fingerprint(half)
    half["head.weight"] = half["head.weight"] * 1.01
    assert fingerprint(weights) != fingerprint(half)


def test_an_average_that_read_nothing_starts_faint() -> None:
    state = StateTuned(make("4")).new_state(1)
    assert all(float(layer.pp.detach().max()) == FAINT for layer in state)
    assert all(float(layer.aa.detach().abs().max()) == 0 for layer in state)
