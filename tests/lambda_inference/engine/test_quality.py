"""What quantization costs the shipped model, in KL divergence over a conversation.

KL(exact || quantized) of the next token's distribution, in nats, averaged over every position of
the text below. The bounds stand well above what was measured (see docs/model-file.md) and well
below what a mistake in a kernel gives: at the least, eight bits worn down to four.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lambda_inference.engine.native import NativeEngine
from lambda_inference.gguf.convert import Quantization, convert
from lambda_inference.gguf.reader import read_info
from lambda_inference.model import describe, shipped_model
from lambda_inference.talk.prompt import Message, PromptBuilder

Distributions = npt.NDArray[np.float64]

# Measured on the model of November 2026: 0 (its checkpoint is F16), 5.8e-5, 6.2e-3.
BOUNDS = {"F16": 1e-5, "Q8_0": 4e-4, "Q4_0": 0.05}

TALK = """\
Morning! Did you sleep well?
Not really, a cat outside sang until three.
Oh no. Was it at least a good singer?
It had passion, I will give it that.
I read that cats only meow at people, hardly ever at each other.
Then it was complaining about me, to me.
Do you have any plans for the weekend?
My sister wants to drive up to the lake and rent a little boat.
That sounds lovely. Can you swim?
I can float, which is half of it. What would you do with a free day?
Probably bake bread and listen to old jazz records.
I love the smell of bread in the oven. Which records?
Mostly piano trios. The drums should whisper and the bass should walk.
You make me want to buy a record player.
They are cheap at the flea market behind the station.
Is that the place with the broken clocks and the good coffee?
Yes! One of the clocks is right twice a day, and the coffee always.
Then I will see you there on Sunday around ten.
Perfect. Bring an umbrella, they say it might rain.
It always rains when we meet, but thank you for the warning!"""


def positions(folder: Path) -> list[int]:
    """The text in the model's own template and tokens."""
    description = describe(folder)
    builder = PromptBuilder(description.template, description.tokenizer())
    lines = TALK.split("\n")
    messages = [
        Message("assistant" if turn % 2 else "user", words) for turn, words in enumerate(lines)
    ]
    return [token for turn in builder.build(messages).turns for token in turn]


def log_probabilities(path: Path, tokens: list[int]) -> Distributions:
    """[position, token]: the distribution after each token, in nats."""
    engine = NativeEngine(path, threads=1)
    rows, state = [], None
    for token in tokens:
        logits, state = engine.forward([token], state)
        exact = logits.astype(np.float64)
        exact -= exact.max()
        rows.append(exact - np.log(np.exp(exact).sum()))
    engine.close()
    return np.stack(rows)


def divergence(exact: Distributions, other: Distributions) -> float:
    """Mean over positions of KL(exact || other), in nats; NaN in either stays NaN."""
    return float((np.exp(exact) * (exact - other)).sum(axis=1).mean())


def surprise(expected: Distributions, tokens: list[int]) -> float:
    """Mean surprise at the text's next token, in nats: what bits per byte is made of."""
    rows = zip(expected[:-1], tokens[1:], strict=True)
    return float(np.mean([-row[token] for row, token in rows]))


@pytest.fixture(scope="module")
def folder() -> Path:
    path = shipped_model()
    path = path.parent if path.is_file() else path
    if not (path / "model.safetensors").is_file():
        pytest.skip("the shipped model's checkpoint is not in this checkout")
    return path


@pytest.fixture(scope="module")
def tokens(folder: Path) -> list[int]:
    return positions(folder)


@pytest.fixture(scope="module")
def converted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    target = tmp_path_factory.mktemp("quality")

    def get(quantization: Quantization) -> Path:
        path = target / f"{quantization}.gguf"
        if not path.exists():
            convert(folder / "model.safetensors", path, quantization=quantization)
        return path

    return get


@pytest.fixture(scope="module")
def exact(converted: Callable[..., Path], tokens: list[int]) -> Distributions:
    return log_probabilities(converted("F32"), tokens)


def test_the_text_is_long_enough_to_judge_by(tokens: list[int], exact: Distributions) -> None:
    """And the model has learnt something: it finds the text likelier than chance would."""
    assert 200 <= len(tokens) <= 600
    assert surprise(exact, tokens) < 0.7 * np.log(exact.shape[1])


@pytest.mark.parametrize(("quantization", "bound"), BOUNDS.items())
def test_quantization_hardly_changes_what_the_model_expects(
    quantization: Quantization,
    bound: float,
    converted: Callable[..., Path],
    tokens: list[int],
    exact: Distributions,
) -> None:
    other = log_probabilities(converted(quantization), tokens)
    mean = divergence(exact, other)
    change = surprise(other, tokens) / surprise(exact, tokens) - 1
    print(f"{quantization}: {mean:.1e} nats, surprise {change:+.3%}, {len(tokens)} positions")
    assert np.isfinite(exact).all()
    assert np.isfinite(other).all()
    assert -1e-12 < mean < bound
    if quantization == "Q8_0":
        assert abs(change) < 0.005


def test_the_measure_notices_a_mistake(
    converted: Callable[..., Path], tokens: list[int], exact: Distributions, tmp_path: Path
) -> None:
    """Each group with its neighbour's scale, as an index that is off by one would have it."""
    good = converted("Q8_0")
    data = bytearray(good.read_bytes())
    tensors = read_info(good).tensors
    end = max(tensor.offset + (tensor.nbytes or 0) for tensor in tensors)
    start = len(data) - -(-end // 32) * 32
    for tensor in tensors:
        if tensor.type == "Q8_0" and tensor.name.startswith("blk."):
            assert tensor.nbytes is not None
            at = start + tensor.offset
            groups = np.frombuffer(data, np.uint8)[at : at + tensor.nbytes].reshape(-1, 34)
            groups[:, :2] = np.roll(groups[:, :2], 1, axis=0)
    (tmp_path / "bad.gguf").write_bytes(data)
    mean = divergence(exact, log_probabilities(tmp_path / "bad.gguf", tokens))
    print(f"{mean:.1e} nats")
    assert mean > 2 * BOUNDS["Q8_0"]
    assert not divergence(exact, exact * np.nan) < BOUNDS["Q4_0"]


def test_the_shipped_file_is_its_checkpoint(
    folder: Path, tokens: list[int], exact: Distributions, converted: Callable[..., Path]
) -> None:
    """Whoever replaces the checkpoint converts it again (docs/model-file.md)."""
    path = shipped_model()
    assert path.suffix == ".gguf"
    assert path.read_bytes() == converted("Q8_0").read_bytes()
