"""The `rwkv` package behind the engine interface, both generations, in one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lambda_inference.engine import Engine, load_engine
from lambda_inference.errors import ModelCorrupt, ModelNotFound, StateCorrupt
from tests.lambda_inference.checkpoints import rwkv4, rwkv7, save

pytestmark = [pytest.mark.reference, pytest.mark.slow]
pytest.importorskip("torch")
pytest.importorskip("rwkv")

VOCAB = 90
TOKENS = [3, 14, 15, 9, 2, 6, 5, 35]


def checkpoints(folder: Path) -> dict[str, Path]:
    four = rwkv4(layers=3, width=32, vocab=VOCAB)
    seven = rwkv7(layers=2, width=64, vocab=VOCAB, head=16, ranks=(4, 4, 4, 8))
    return {
        "4-pth": save(four, folder / "four.pth"),
        "4-safetensors": save(four, folder / "four.safetensors"),
        "7-pth": save(seven, folder / "seven.pth"),
        "7-safetensors": save(seven, folder / "seven.safetensors"),
    }


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    found = checkpoints(tmp_path_factory.mktemp("checkpoints"))
    return {name: load_engine(path, threads=1) for name, path in found.items()}


NAMES = ("4-pth", "4-safetensors", "7-pth", "7-safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_and_its_tokens_one_by_one_give_the_same(
    engines: dict[str, Engine], name: str
) -> None:
    engine = engines[name]
    whole, state = engine.forward(TOKENS, None)
    one = engine.new_state()
    for token in TOKENS:
        single, one = engine.forward([token], one)
    assert whole.shape == (VOCAB,) == (engine.vocab_size,)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, single, rtol=1e-4, atol=1e-4)
    again, _ = engine.forward([1], state)
    np.testing.assert_allclose(again, engine.forward([1], one)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_is_never_changed_and_survives_bytes(engines: dict[str, Engine], name: str) -> None:
    engine = engines[name]
    _, state = engine.forward(TOKENS, None)
    before = state.to_bytes()
    for tokens in ([1], [1, 2, 3]):
        engine.forward(tokens, state)
    assert state.to_bytes() == before
    read = engine.state_from_bytes(before)
    assert np.array_equal(engine.forward([7], read)[0], engine.forward([7], state)[0])
    assert read.nbytes == state.nbytes
    assert state.copy().to_bytes() == before


def test_both_formats_hold_the_same_model(engines: dict[str, Engine]) -> None:
    for generation in "47":
        one, other = (engines[f"{generation}-{kind}"] for kind in ("pth", "safetensors"))
        assert np.array_equal(one.forward(TOKENS, None)[0], other.forward(TOKENS, None)[0])


def test_states_of_other_models_and_damaged_ones_are_refused(engines: dict[str, Engine]) -> None:
    data = engines["7-pth"].forward(TOKENS, None)[1].to_bytes()
    for broken in (b"", data[:-1], data[:20], b"x" + data[1:], data + b"\0" * 4):
        with pytest.raises(StateCorrupt):
            engines["7-pth"].state_from_bytes(broken)
    with pytest.raises(StateCorrupt):
        engines["4-pth"].state_from_bytes(data)


def test_files_that_are_no_checkpoint_say_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        load_engine(tmp_path / "none.pth")
    weights = rwkv7(layers=1, width=32, vocab=40, head=16, ranks=(4, 4, 4, 4))
    whole = save(weights, tmp_path / "whole.pth").read_bytes()
    del weights["blocks.0.att.key.weight"]
    save(weights, tmp_path / "part.pth")
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    save({"other": weights["emb.weight"]}, tmp_path / "other.pth")
    for name in ("part.pth", "cut.pth", "text.pth", "cut.safetensors", "other.pth"):
        with pytest.raises(ModelCorrupt, match=name.replace(".", r"\.")):
            load_engine(tmp_path / name)
