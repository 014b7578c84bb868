"""LoRA on both models: starts as the model it adapts, trains only adapters, merges exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from finetuning.errors import CheckpointError
from finetuning.models.lora import (
    AdaptedLinear,
    LoraSettings,
    adapter_weights,
    add_adapters,
    load_adapter_weights,
    merged_weights,
)
from finetuning.models.rwkv4 import RWKV4, RWKV4Shape
from finetuning.models.rwkv7 import CHUNK, RWKV7, RWKV7Shape
from finetuning.training.checkpoint import load_checkpoint
from finetuning.training.export import export_pth
from tests.lambda_inference.checkpoints import rwkv4 as random_checkpoint

torch.set_num_threads(1)  # on tensors this small a second thread only waits

VOCABULARY = 64
Model = RWKV4 | RWKV7
LAYERS = {"4": {"att": 4, "ffn": 3}, "7": {"att": 4, "ffn": 2}}


def noisy(model: nn.Module) -> None:
    """Weights that are zero nowhere."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))


def make(generation: str) -> Model:
    if generation == "4":
        model: Model = RWKV4(RWKV4Shape(layers=2, width=32, vocab_size=VOCABULARY))
        numbers = random_checkpoint(layers=2, width=32, vocab=VOCABULARY)
        model.load_state_dict({name: torch.from_numpy(value) for name, value in numbers.items()})
    else:
        model = RWKV7(RWKV7Shape(layers=2, width=32, vocab_size=VOCABULARY, head_size=16))
        noisy(model)
    return model.eval()


@pytest.fixture(params=["4", "7"])
def generation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def tokens(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (2, CHUNK + 1), generator=generator)


def loss(model: Model, text: Tensor) -> Tensor:
    logits, _ = model(text[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())


def logits(model: Model) -> Tensor:
    with torch.no_grad():
        return model(tokens()[:, :-1])[0]


def trained(model: Model, steps: int = 6) -> Model:
    model.train()
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model, tokens()).backward()
        optimizer.step()
    return model.eval()


def test_a_fresh_adapter_changes_nothing(generation: str) -> None:
    model = make(generation)
    before = logits(model)
    names = add_adapters(model, LoraSettings())
    assert len(names) == 2 * sum(LAYERS[generation].values())
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)


def test_only_adapters_learn_and_all_of_them(generation: str) -> None:
    model = make(generation)
    frozen = {name: weight.clone() for name, weight in model.state_dict().items()}
    add_adapters(model, LoraSettings())
    at_first = {name: weight.clone() for name, weight in adapter_weights(model).items()}
    before = float(loss(model, tokens()).detach())

    trained(model)

    assert float(loss(model, tokens()).detach()) < 0.95 * before
    after = model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in frozen.items())
    unmoved = [name for name, weight in at_first.items() if torch.equal(after[name], weight)]
    assert unmoved == []
    assert {name for name, w in model.named_parameters() if w.requires_grad} == at_first.keys()


def test_the_merged_model_is_plain_and_says_the_same(generation: str, tmp_path: Path) -> None:
    model = make(generation)
    plain_names = list(model.state_dict())
    before = logits(model)
    add_adapters(model, LoraSettings())
    adapted = logits(trained(model))
    export_pth(merged_weights(model), tmp_path / "merged.pth")

    merged = load_checkpoint(tmp_path / "merged.pth")
    assert sorted(merged) == sorted(plain_names)
    plain = make(generation)
    plain.load_state_dict(merged)

    assert float((adapted - before).abs().max()) > 0.05
    torch.testing.assert_close(logits(plain), adapted, rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_the_merged_matrix(generation: str) -> None:
    """dA and dB follow from the full gradient dW by the chain rule."""
    model = make(generation)
    add_adapters(model, LoraSettings(dropout=0.0))
    trained(model, steps=2)
    model.zero_grad()
    loss(model, tokens()).backward()
    plain = make(generation)
    plain.load_state_dict(merged_weights(model))
    loss(plain, tokens()).backward()
    full = {name: weight.grad for name, weight in plain.named_parameters()}
    for name, layer in model.named_modules():
        if isinstance(layer, AdaptedLinear):
            dw = full[name + ".weight"]
            assert dw is not None
            a, b = layer.lora_a.detach(), layer.lora_b.detach()
            wanted = (layer.scale * b.T @ dw, layer.scale * dw @ a.T)
            got = (layer.lora_a.grad, layer.lora_b.grad)
            for one, other in zip(wanted, got, strict=True):
                assert other is not None
                assert float((one - other).norm() / one.norm()) < 1e-3, name


def recompute_blocks(model: Model) -> None:
    """What gradient checkpointing does to a model, whatever the model offers itself."""

    def recomputing(forward: Callable[..., object]) -> Callable[..., object]:
        return lambda *inputs: checkpoint(forward, *inputs, use_reentrant=False)

    for block in model.blocks:
        block.forward = recomputing(block.forward)


def test_recomputed_blocks_give_the_same_gradients_dropout_included(generation: str) -> None:
    gradients = []
    for recompute in (False, True):
        model = make(generation)
        add_adapters(model, LoraSettings(dropout=0.3))
        noise = {k: torch.full_like(v, 0.02) for k, v in adapter_weights(model).items()}
        load_adapter_weights(model, noise)
        if recompute:
            recompute_blocks(model)
        torch.manual_seed(4)
        loss(model.train(), tokens()).backward()
        found = {n: w.grad for n, w in model.named_parameters() if w.requires_grad}
        gradients.append(found)
    for name, wanted in gradients[0].items():
        assert wanted is not None
        torch.testing.assert_close(gradients[1][name], wanted, rtol=1e-5, atol=1e-7)


def test_adapters_learn_with_narrow_products_too(generation: str) -> None:
    model = make(generation)
    add_adapters(model, LoraSettings())
    load_adapter_weights(
        model, {name: torch.full_like(w, 0.02) for name, w in adapter_weights(model).items()}
    )
    wide = logits(model)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = logits(model)
        total = loss(model, tokens())
    total.backward()
    assert float((wide - narrow).norm() / wide.norm()) < 0.05
    grads = [weight.grad for weight in model.parameters() if weight.requires_grad]
    assert all(grad is not None and float(grad.norm()) > 0 for grad in grads)
    assert all(grad.dtype == torch.float32 for grad in grads if grad is not None)


def test_dropout_is_for_training_alone() -> None:
    model = make("4")
    add_adapters(model, LoraSettings(dropout=0.5))
    load_adapter_weights(
        model, {name: torch.full_like(w, 0.05) for name, w in adapter_weights(model).items()}
    )
    assert torch.equal(logits(model), logits(model))
    model.train()
    assert not torch.equal(logits(model), logits(model))


def test_patterns_choose_the_matrices() -> None:
    model = make("7")
    names = add_adapters(model, LoraSettings(targets=("blocks.1.att.key", "blocks.*.ffn.value")))
    assert names == ["blocks.0.ffn.value", "blocks.1.att.key", "blocks.1.ffn.value"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (LoraSettings(rank=0), "--lora-rank"),
        (LoraSettings(alpha=0.0), "--lora-alpha"),
        (LoraSettings(dropout=1.0), "--lora-dropout"),
        (LoraSettings(targets=()), "--lora-targets"),
        (LoraSettings(targets=("blocks.*.attn.*",)), r"'blocks\.\*\.attn\.\*' fits no matrix"),
        (LoraSettings(targets=("head",)), "'head' fits no matrix of a block"),
    ],
)
def test_settings_that_make_no_sense_name_the_option(
    settings: LoraSettings, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        add_adapters(make("4"), settings)


def test_saved_adapters_go_back_or_are_refused(generation: str) -> None:
    model = make(generation)
    add_adapters(model, LoraSettings())
    wanted = logits(trained(model))
    saved = {name: weight.clone() for name, weight in adapter_weights(model).items()}

    again = make(generation)
    add_adapters(again, LoraSettings(), seed=9)
    load_adapter_weights(again, saved)
    assert torch.equal(logits(again), wanted)

    wider = make(generation)
    add_adapters(wider, LoraSettings(rank=4))
    with pytest.raises(CheckpointError, match="--lora-rank"):
        load_adapter_weights(wider, saved)
    fewer = make(generation)
    add_adapters(fewer, LoraSettings(targets=("blocks.*.att.key",)))
    with pytest.raises(CheckpointError, match="--lora-targets"):
        load_adapter_weights(fewer, saved)


def test_any_other_use_of_an_adapted_weight_sees_the_adapter() -> None:
    model = make("4")
    add_adapters(model, LoraSettings())
    trained(model, steps=2)
    layer = model.blocks[0].att.key
    x = torch.randn(3, 32)
    with torch.no_grad():
        torch.testing.assert_close(x @ layer.weight.t(), layer(x), rtol=1e-4, atol=1e-5)
        stacked = torch.cat([layer.weight, layer.weight])
        torch.testing.assert_close(stacked[:32], layer.merged())
