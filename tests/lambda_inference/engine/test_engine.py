"""The native engine against the `rwkv` package, and its own promises."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lambda_inference import _native
from lambda_inference.engine import Engine, State
from lambda_inference.engine.native import NativeEngine
from lambda_inference.engine.reference import ReferenceEngine
from lambda_inference.errors import ModelError, ModelNotFound, StateCorrupt

Floats = npt.NDArray[np.float32]
ModelFile = Callable[..., Path]
ALL = ("rwkv7", "rwkv4", "rwkv7-odd", "rwkv4-odd")
BOTH = ("rwkv7", "rwkv4")
ISAS = _native.supported_isas()


def tokens_for(engine: Engine, count: int, seed: int = 0) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, engine.vocab_size, count)]


def one_by_one(
    engine: Engine, tokens: list[int], state: State | None = None
) -> tuple[Floats, State]:
    for token in tokens:
        logits, state = engine.forward([token], state)
    assert state is not None
    return logits, state


def distance(a: Floats, b: Floats) -> float:
    """Largest difference, relative to the largest logit."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def divergence(logits: Floats, wanted: Floats) -> float:
    """KL divergence of the distributions, in nats."""
    p, q = (
        x.astype(np.float64) - np.logaddexp.reduce(x.astype(np.float64)) for x in (wanted, logits)
    )
    return float((np.exp(p) * (p - q)).sum())


@pytest.fixture(scope="module")
def reference(checkpoint: Callable[[str], Path]) -> Callable[[str], ReferenceEngine]:
    made: dict[str, ReferenceEngine] = {}

    def get(name: str) -> ReferenceEngine:
        if name not in made:
            made[name] = ReferenceEngine(checkpoint(name), threads=1)
        return made[name]

    return get


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FRIEND_ISA", request.param)
    return str(request.param)


@pytest.mark.parametrize("name", ALL)
def test_logits_match_the_reference(
    name: str, isa: str, model_file: ModelFile, reference: Callable[[str], ReferenceEngine]
) -> None:
    engine, oracle = NativeEngine(model_file(name)), reference(name)
    assert engine.isa == isa
    tokens = tokens_for(engine, 37)
    for count in (1, 2, 3, 4, 9, 37):
        wanted, _ = oracle.forward(tokens[:count], None)
        logits, _ = engine.forward(tokens[:count], None)
        assert logits.dtype == np.float32
        assert logits.shape == (engine.vocab_size,)
        assert distance(logits, wanted) < 1e-4


@pytest.mark.parametrize("quantization", ["F32", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("name", ALL)
def test_logits_after_each_token_are_those_of_one_step_at_a_time(
    name: str, quantization: str, isa: str, model_file: ModelFile
) -> None:
    engine = NativeEngine(model_file(name, quantization), threads=2)
    tokens = tokens_for(engine, 153)  # more than one internal chunk
    _, before = engine.forward(tokens[:3], None)
    rows, after = engine.forward_each(tokens[3:], before)
    assert rows.shape == (150, engine.vocab_size)
    assert rows.dtype == np.float32
    whole, wanted_after = engine.forward(tokens[3:], before)
    assert np.array_equal(rows[-1], whole)
    assert after.to_bytes() == wanted_after.to_bytes()
    state = before
    for token, row in zip(tokens[3:], rows, strict=True):
        logits, state = engine.forward([token], state)
        assert np.array_equal(row, logits)


@pytest.mark.parametrize("name", BOTH)
def test_greedy_continuation_matches_the_reference(
    name: str, model_file: ModelFile, reference: Callable[[str], ReferenceEngine]
) -> None:
    prompt = list(range(1, 12))
    texts: list[list[int]] = []
    for engine in (NativeEngine(model_file(name)), reference(name)):
        logits, state = engine.forward(prompt, None)
        text: list[int] = []
        for _ in range(200):
            text.append(int(logits.argmax()))
            logits, state = engine.forward([text[-1]], state)
        texts.append(text)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("quantization", ["F32", "F16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("name", ALL)
def test_a_prompt_gives_the_same_bits_however_it_is_cut(
    name: str, quantization: str, isa: str, model_file: ModelFile
) -> None:
    engine = NativeEngine(model_file(name, quantization))
    tokens = tokens_for(engine, 150)  # more than one internal chunk
    logits, state = engine.forward(tokens, None)
    for cuts in ([1] * 150, [147, 3], [2, 5, 16, 127]):
        other: State | None = None
        at = 0
        for cut in cuts:
            again, other = engine.forward(tokens[at : at + cut], other)
            at += cut
        assert other is not None
        assert np.array_equal(logits, again)
        assert state.to_bytes() == other.to_bytes()


@pytest.mark.parametrize("quantization", ["F32", "F16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("name", BOTH)
def test_instruction_sets_agree(
    name: str, quantization: str, model_file: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model_file(name, quantization)
    results = {}
    for isa in ISAS:
        monkeypatch.setenv("FRIEND_ISA", isa)
        engine = NativeEngine(path)
        results[isa], _ = engine.forward(tokens_for(engine, 20), None)
    # Rounding of activations may fall the other way where floats differ in the last bit.
    bound = 1e-4 if quantization in ("F32", "F16") else 0.05
    assert all(distance(logits, results["scalar"]) < bound for logits in results.values())


@pytest.mark.parametrize(("quantization", "most"), [("F16", 1e-5), ("Q8_0", 2e-3), ("Q4_0", 0.15)])
@pytest.mark.parametrize("name", BOTH)
def test_quantization_error_is_bounded(
    name: str, quantization: str, most: float, model_file: ModelFile
) -> None:
    exact, engine = NativeEngine(model_file(name)), NativeEngine(model_file(name, quantization))
    tokens = tokens_for(exact, 64)
    a, b = None, None
    total = 0.0
    for token in tokens:
        wanted, a = exact.forward([token], a)
        logits, b = engine.forward([token], b)
        total += divergence(logits, wanted)
    assert total / len(tokens) < most


@pytest.mark.parametrize("quantization", ["F32", "Q8_0"])
@pytest.mark.parametrize("name", BOTH)
def test_threads_do_not_change_a_bit(name: str, quantization: str, model_file: ModelFile) -> None:
    path = model_file(name, quantization)
    tokens = tokens_for(NativeEngine(path), 130)
    results = []
    for threads in (1, 2, 3, 5):
        engine = NativeEngine(path, threads=threads)
        assert engine.threads == threads
        logits, state = engine.forward(tokens, None)
        more, state = one_by_one(engine, tokens[:3], state)
        results.append((logits.tobytes(), more.tobytes(), state.to_bytes()))
    assert all(result == results[0] for result in results)


def test_threads_share_the_work_of_single_tokens(tmp_path: Path) -> None:
    """A model large enough for one token to be worth several threads."""
    from lambda_inference.gguf.convert import convert
    from tests.lambda_inference import checkpoints

    weights = checkpoints.rwkv7(layers=2, width=512, vocab=600)
    checkpoints.save_tokenizer(tmp_path, 600)
    source = checkpoints.save(weights, tmp_path / "model.safetensors")
    convert(source, tmp_path / "model.gguf", quantization="F32")
    results = []
    for threads in (1, 2, 4):
        engine = NativeEngine(tmp_path / "model.gguf", threads=threads)
        logits, state = one_by_one(engine, list(range(10)))
        results.append((logits.tobytes(), state.to_bytes()))
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("name", BOTH)
def test_forward_leaves_the_given_state_alone(name: str, model_file: ModelFile) -> None:
    engine = NativeEngine(model_file(name))
    _, state = engine.forward([1, 2, 3], None)
    before = state.to_bytes()
    first, after = engine.forward([4], state)
    engine.forward(list(range(40)), state)
    second, again = engine.forward([4], state.copy())
    assert state.to_bytes() == before
    assert np.array_equal(first, second)
    assert after.to_bytes() == again.to_bytes()
    assert after.to_bytes() != before
    assert state.nbytes == after.nbytes > 0
    fresh, _ = engine.forward([1, 2, 3], engine.new_state())
    assert np.array_equal(fresh, engine.forward([1, 2, 3], None)[0])


@pytest.mark.parametrize("name", BOTH)
def test_a_state_survives_serialization(name: str, model_file: ModelFile) -> None:
    engine = NativeEngine(model_file(name))
    _, state = engine.forward([5, 6, 7], None)
    data = state.to_bytes()
    other = NativeEngine(model_file(name))
    restored = other.state_from_bytes(data)
    assert restored.to_bytes() == data
    assert np.array_equal(other.forward([8], restored)[0], engine.forward([8], state)[0])


def test_damaged_or_foreign_states_are_refused(model_file: ModelFile) -> None:
    engine, foreign = NativeEngine(model_file("rwkv7")), NativeEngine(model_file("rwkv4"))
    data = engine.new_state().to_bytes()
    flipped = data[:-1] + bytes([data[-1] ^ 1])
    for bad in (
        b"",
        b"x" * 100,
        data[:20],
        data[:-4],
        data + b"\0\0\0\0",
        flipped,
        foreign.new_state().to_bytes(),
    ):
        with pytest.raises(StateCorrupt):
            engine.state_from_bytes(bad)


def test_wrong_arguments_get_a_sentence(model_file: ModelFile, tmp_path: Path) -> None:
    engine = NativeEngine(model_file("rwkv7"))
    other = NativeEngine(model_file("rwkv7"))
    with pytest.raises(ValueError, match="at least one token"):
        engine.forward([], None)
    for token in (-1, engine.vocab_size, 2**40):
        with pytest.raises(ValueError, match="outside the vocabulary"):
            engine.forward([1, token], None)
    with pytest.raises(ValueError, match="another engine"):
        engine.forward([1], other.new_state())
    with pytest.raises(ModelNotFound):
        NativeEngine(tmp_path / "none.gguf")
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.forward([1], None)


def test_an_unknown_instruction_set_is_named(
    model_file: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRIEND_ISA", "mmx")
    with pytest.raises(ModelError, match=r"mmx.*scalar"):
        NativeEngine(model_file("rwkv7"))


def test_concurrent_callers_share_one_set_of_weights(model_file: ModelFile) -> None:
    engine = NativeEngine(model_file("rwkv7", "Q8_0"), threads=2)
    prompts = [tokens_for(engine, 5 + 40 * i, seed=i) for i in range(6)]
    wanted = [one_by_one(engine, p[:5], engine.forward(p, None)[1])[0] for p in prompts]
    results: list[Floats | None] = [None] * len(prompts)

    def run(i: int) -> None:
        _, state = engine.forward(prompts[i], None)
        results[i], _ = one_by_one(engine, prompts[i][:5], state)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert all(
        got is not None and np.array_equal(got, want)
        for got, want in zip(results, wanted, strict=True)
    )


def test_an_engine_works_on_in_a_forked_child(model_file: ModelFile) -> None:
    script = """
import os, sys
from pathlib import Path
from lambda_inference.engine.native import NativeEngine
engine = NativeEngine(Path(sys.argv[1]), threads=2)
wanted, _ = engine.forward(list(range(100)), None)  # starts the threads
child = os.fork()
if child == 0:
    logits, _ = engine.forward(list(range(100)), None)
    os._exit(0 if (logits == wanted).all() else 1)
_, status = os.waitpid(child, 0)
again, _ = engine.forward(list(range(100)), None)
sys.exit(os.waitstatus_to_exitcode(status) or int(not (again == wanted).all()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(model_file("rwkv7", "Q8_0"))],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0


def test_serving_needs_neither_torch_nor_gguf(model_file: ModelFile) -> None:
    script = """
import sys
from pathlib import Path
from lambda_inference.engine import load_engine
from lambda_inference.gguf.reader import read_metadata
path = Path(sys.argv[1])
read_metadata(path, {"tokenizer.huggingface.json"})
load_engine(path).forward([1, 2], None)
print(" ".join(m for m in ("torch", "gguf", "safetensors", "rwkv") if m in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(model_file("rwkv7"))],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "100000 100000"}, 1),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "30000 100000"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "151000 100000"}, 2),
        ({"proc/self/cgroup": "0::/x\n", "sys/fs/cgroup/x/cpu.max": "90000000 100000"}, None),
        (
            {
                "proc/self/cgroup": "4:cpuset:/y\n3:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
            },
            1,
        ),
        ({"proc/self/cgroup": "garbage\n::\n", "sys/fs/cgroup/cpu.max": "x y"}, None),
    ],
)
def test_threads_follow_the_cgroup_quota(
    files: dict[str, str], limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert _native.cpu_limit(str(tmp_path)) == min(cpus, limit or cpus)


@pytest.mark.parametrize(
    ("megabytes", "limit"),
    [("128", 1), ("1769", 1), ("2048", 1), ("3008", 2), ("3538", 2), ("10240", 6), ("", None),
     ("much", None), ("-1", None)],
)  # fmt: skip
def test_threads_follow_the_memory_that_lambda_gives(
    megabytes: str, limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function of 1769 MB gets one processor's time and sees two processors."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", megabytes)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert _native.cpu_limit(str(tmp_path)) == min(cpus, limit or cpus)
