"""Many sequences in one pass: each gets what it would get alone, to the bit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambda_inference import _native
from lambda_inference.engine import Engine, State
from lambda_inference.engine.native import NativeEngine
from lambda_inference.engine.reference import ReferenceEngine

ModelFile = Callable[..., Path]
ALL = ("rwkv7", "rwkv4", "rwkv7-odd", "rwkv4-odd")
BOTH = ("rwkv7", "rwkv4")
FORMATS = ("F32", "F16", "Q8_0", "Q4_0")
LONGEST = 90  # tokens of a sequence; three of them are more than one internal chunk


def tokens_for(engine: Engine, count: int, seed: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, engine.vocab_size, count)]


def states_for(engine: Engine, count: int, seed: int) -> list[State | None]:
    """Every fourth begins anew; the others have read something."""
    return [
        None if i % 4 == 3 else engine.forward(tokens_for(engine, 2 + i % 3, seed + i), None)[1]
        for i in range(count)
    ]


def assert_each_as_alone(
    engine: Engine, tokens: Sequence[Sequence[int]], states: Sequence[State | None], alone: Engine
) -> None:
    """`alone` may be another engine of the same file."""
    logits, after = engine.forward_batch(tokens, states)
    assert logits.shape == (len(tokens), engine.vocab_size)
    assert logits.dtype == np.float32
    for one, before, row, state in zip(tokens, states, logits, after, strict=True):
        other = before if before is None else alone.state_from_bytes(before.to_bytes())
        wanted, wanted_state = alone.forward(one, other)
        assert np.array_equal(row, wanted)
        assert state.to_bytes() == wanted_state.to_bytes()


@pytest.fixture(params=_native.supported_isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FRIEND_ISA", request.param)
    return str(request.param)


@pytest.mark.parametrize("quantization", FORMATS)
@pytest.mark.parametrize("name", ALL)
def test_a_row_does_not_depend_on_the_batch_or_the_threads(
    name: str, quantization: str, isa: str, model_file: ModelFile
) -> None:
    path = model_file(name, quantization)
    alone = NativeEngine(path, threads=1)
    for threads in (1, 2):
        engine = NativeEngine(path, threads=threads)
        # Around every size at which a kernel hands over to the next.
        for size in (1, 2, 3, 4, 5, 7, 8, 17):
            states = states_for(engine, size, seed=size)
            tokens = [tokens_for(engine, 1, seed=100 + i) for i in range(size)]
            assert_each_as_alone(engine, tokens, states, alone)


_BATCH = st.lists(
    st.tuples(st.one_of(st.just(1), st.integers(1, LONGEST)), st.booleans()),
    min_size=1,
    max_size=20,
)


@pytest.mark.parametrize("quantization", ["F16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("name", BOTH)
@given(batch=_BATCH, threads=st.integers(1, 3), seed=st.integers(0, 1000))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_words_and_pieces_of_prompts_go_together(
    name: str,
    quantization: str,
    batch: list[tuple[int, bool]],
    threads: int,
    seed: int,
    model_file: ModelFile,
) -> None:
    engine = NativeEngine(model_file(name, quantization), threads=threads)
    used = engine.forward(tokens_for(engine, 5, seed), None)[1]
    tokens = [tokens_for(engine, length, seed + i) for i, (length, _) in enumerate(batch)]
    assert_each_as_alone(engine, tokens, [used if old else None for _, old in batch], engine)


@pytest.mark.parametrize("name", BOTH)
def test_conversations_decode_together_as_they_would_alone(
    name: str, model_file: ModelFile
) -> None:
    """Sixty steps; members leave and join in between."""
    engine = NativeEngine(model_file(name, "Q8_0"), threads=2)
    prompts = {i: tokens_for(engine, 3 + 5 * i, seed=i) for i in range(9)}

    def alone(i: int, steps: int) -> list[int]:
        logits, state = engine.forward(prompts[i], None)
        said = [int(logits.argmax())]
        for _ in range(steps):
            logits, state = engine.forward([said[-1]], state)
            said.append(int(logits.argmax()))
        return said

    said: dict[int, list[int]] = {}
    states: dict[int, State] = {}
    for step in range(60):
        if step % 5 == 0 and step // 5 in prompts:
            i = step // 5
            logits, states[i] = engine.forward(prompts[i], None)
            said[i] = [int(logits.argmax())]
        members = [i for i in states if len(said[i]) < 25]
        rows, after = engine.forward_batch(
            [[said[i][-1]] for i in members], [states[i] for i in members]
        )
        for i, row, state in zip(members, rows, after, strict=True):
            said[i].append(int(row.argmax()))
            states[i] = state
    assert len(said) == 9
    assert all(words == alone(i, len(words) - 1) for i, words in said.items())


@pytest.mark.parametrize("name", BOTH)
def test_drafts_share_the_state_they_start_from(name: str, model_file: ModelFile) -> None:
    engine = NativeEngine(model_file(name, "Q8_0"), threads=2)
    _, state = engine.forward([1, 2, 3], None)
    kept = state.to_bytes()
    tokens = [[token] for token in range(12)]
    assert_each_as_alone(engine, tokens, [state] * 12, engine)
    assert state.to_bytes() == kept


@pytest.mark.parametrize("name", BOTH)
def test_a_large_model_shares_a_batch_among_threads(name: str, tmp_path: Path) -> None:
    """Large enough for a single token to be worth several threads."""
    from lambda_inference.gguf.convert import convert
    from tests.lambda_inference import checkpoints

    make = checkpoints.rwkv7 if name == "rwkv7" else checkpoints.rwkv4
    checkpoints.save_tokenizer(tmp_path, 600)
    source = checkpoints.save(make(layers=2, width=512, vocab=600), tmp_path / "model.safetensors")
    convert(source, tmp_path / "model.gguf", quantization="F32")
    alone = NativeEngine(tmp_path / "model.gguf", threads=1)
    for threads in (1, 2, 4):
        engine = NativeEngine(tmp_path / "model.gguf", threads=threads)
        for size in (1, 3, 9):
            states = states_for(engine, size, seed=size)
            tokens = [tokens_for(engine, 1 + 40 * (i == 1), seed=i) for i in range(size)]
            assert_each_as_alone(engine, tokens, states, alone)


def test_batches_of_several_callers_do_not_mix(model_file: ModelFile) -> None:
    engine = NativeEngine(model_file("rwkv7", "Q8_0"), threads=2)
    failed: list[int] = []

    def run(seed: int) -> None:
        for turn in range(5):
            states = states_for(engine, 4, seed=seed)
            tokens = [tokens_for(engine, 1 + 30 * i, seed=turn + i) for i in range(4)]
            try:
                assert_each_as_alone(engine, tokens, states, engine)
            except AssertionError:
                failed.append(seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not failed


def test_the_reference_engine_answers_in_batches_too(
    checkpoint: Callable[[str], Path], model_file: ModelFile
) -> None:
    oracle = ReferenceEngine(checkpoint("rwkv7"), threads=1)
    engine = NativeEngine(model_file("rwkv7"))
    tokens = [[1, 2, 3], [4], [5, 6]]
    wanted, after = oracle.forward_batch(tokens, [None, oracle.new_state(), None])
    rows, _ = engine.forward_batch(tokens, [None, engine.new_state(), None])
    assert wanted.shape == rows.shape == (3, 512)
    assert np.abs(rows - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert np.array_equal(oracle.forward([7], after[1])[0], oracle.forward([4, 7], None)[0])
    nothing, none = oracle.forward_batch([], [])
    assert nothing.shape == (0, 512)
    assert none == []


def test_wrong_batches_get_a_sentence_and_an_empty_one_nothing(model_file: ModelFile) -> None:
    engine, other = NativeEngine(model_file("rwkv7")), NativeEngine(model_file("rwkv7"))
    rows, states = engine.forward_batch([], [])
    assert rows.shape == (0, engine.vocab_size)
    assert states == []
    with pytest.raises(ValueError, match="as many states"):
        engine.forward_batch([[1], [2]], [None])
    with pytest.raises(ValueError, match="at least one token"):
        engine.forward_batch([[1], []], [None, None])
    with pytest.raises(ValueError, match="outside the vocabulary"):
        engine.forward_batch([[1], [engine.vocab_size]], [None, None])
    with pytest.raises(ValueError, match="another engine"):
        engine.forward_batch([[1], [2]], [None, other.new_state()])
