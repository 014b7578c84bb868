"""Each setting does what its name says, and a seed gives the same tokens again."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lambda_inference.talk.sampling import Sampler, SamplingSettings, pick

Logits = npt.NDArray[np.float32]
SMALL = arrays(np.float32, st.integers(1, 40), elements=st.floats(-20, 20, width=32))


def draws(settings: SamplingSettings, logits: Logits, count: int = 400) -> set[int]:
    return {Sampler(settings_with(settings, n)).sample(logits) for n in range(count)}


def settings_with(settings: SamplingSettings, seed: int) -> SamplingSettings:
    return SamplingSettings(**{**vars(settings), "seed": seed})


def logits_of(*weights: float) -> Logits:
    return np.log(np.array(weights, dtype=np.float32))


@given(logits=SMALL)
def test_temperature_0_takes_the_most_likely(logits: Logits) -> None:
    assert Sampler(SamplingSettings(temperature=0)).sample(logits) == int(np.argmax(logits))


@given(logits=SMALL, seed=st.integers(0, 2**64 - 1), top_p=st.floats(0.1, 1))
def test_the_same_seed_draws_the_same(logits: Logits, seed: int, top_p: float) -> None:
    settings = SamplingSettings(seed=seed, top_p=top_p, frequency_penalty=0.5)
    before = logits.copy()
    first, second = Sampler(settings), Sampler(settings)
    assert [first.sample(logits) for _ in range(8)] == [second.sample(logits) for _ in range(8)]
    assert np.array_equal(logits, before)


def test_no_seed_draws_differently() -> None:
    logits = np.zeros(1000, dtype=np.float32)
    runs = [[Sampler(SamplingSettings()).sample(logits) for _ in range(4)] for _ in range(2)]
    assert runs[0] != runs[1]


@given(logits=SMALL, top_p=st.floats(0, 1), temperature=st.floats(0.2, 2), seed=st.integers(0, 99))
def test_top_p_keeps_the_smallest_set_that_reaches_it(
    logits: Logits, top_p: float, temperature: float, seed: int
) -> None:
    settings = SamplingSettings(top_p=top_p, temperature=temperature, seed=seed)
    token = Sampler(settings).sample(logits)
    scaled = logits.astype(np.float64) / temperature
    probability = np.exp(scaled - scaled.max())
    probability /= probability.sum()
    likelier = probability[probability > probability[token] * (1 + 1e-5)].sum()
    assert likelier <= top_p + 1e-4  # what is likelier did not reach top_p without it


@given(logits=SMALL, top_k=st.integers(1, 50), seed=st.integers(0, 99))
def test_top_k_keeps_the_most_likely(logits: Logits, top_k: int, seed: int) -> None:
    token = Sampler(SamplingSettings(top_k=top_k, seed=seed)).sample(logits)
    assert int((logits > logits[token] + 1e-5).sum()) < top_k  # closer ones are equally likely


def test_min_p_is_relative_to_the_most_likely() -> None:
    logits = logits_of(0.5, 0.3, 0.15, 0.05)
    assert draws(SamplingSettings(min_p=0.25), logits) == {0, 1, 2}
    assert draws(SamplingSettings(min_p=0.5), logits) == {0, 1}
    assert draws(SamplingSettings(min_p=1.0), logits) == {0}


def test_top_p_counts_within_what_top_k_left() -> None:
    logits = logits_of(0.4, 0.3, 0.2, 0.1)
    assert draws(SamplingSettings(top_k=2, top_p=0.55), logits) == {0}
    assert draws(SamplingSettings(top_k=2, top_p=0.6), logits) == {0, 1}


def test_draws_follow_the_distribution() -> None:
    weights = np.array([0.5, 0.25, 0.15, 0.1])
    sampler = Sampler(SamplingSettings(seed=7))
    logits = np.log(weights).astype(np.float32)
    counts = np.bincount([sampler.sample(logits) for _ in range(20_000)], minlength=4)
    assert np.abs(counts / 20_000 - weights).max() < 0.015  # 4 standard deviations


def test_temperature_flattens_and_sharpens() -> None:
    logits = logits_of(0.7, 0.3)

    def share(temperature: float) -> float:
        sampler = Sampler(SamplingSettings(temperature=temperature, seed=1))
        return float(np.mean([sampler.sample(logits) for _ in range(5000)]))

    assert share(0.5) == pytest.approx(0.09 / (0.09 + 0.49), abs=0.02)
    assert share(2.0) == pytest.approx(0.3**0.5 / (0.3**0.5 + 0.7**0.5), abs=0.03)


def test_presence_is_taken_once_and_frequency_each_time() -> None:
    logits = np.array([2.0, 1.0, -9.0], dtype=np.float32)
    presence = Sampler(SamplingSettings(temperature=0, presence_penalty=1.5))
    assert [presence.sample(logits) for _ in range(4)] == [0, 1, 0, 0]
    frequency = Sampler(SamplingSettings(temperature=0, frequency_penalty=0.6))
    assert [frequency.sample(logits) for _ in range(4)] == [0, 0, 1, 0]


def test_repetition_divides_or_multiplies() -> None:
    logits = np.array([1.0, 0.6, -1.0], dtype=np.float32)
    sampler = Sampler(SamplingSettings(temperature=0, repetition_penalty=2.0))
    assert [sampler.sample(logits) for _ in range(2)] == [0, 1]
    below = np.array([-1.0, -1.5], dtype=np.float32)
    sampler = Sampler(SamplingSettings(temperature=0, repetition_penalty=2.0))
    assert [sampler.sample(below) for _ in range(2)] == [0, 1]


def test_exempt_tokens_are_never_penalised() -> None:
    logits = np.array([2.0, 1.0], dtype=np.float32)
    sampler = Sampler(SamplingSettings(temperature=0, presence_penalty=2.0), exempt={0})
    assert [sampler.sample(logits) for _ in range(3)] == [0, 0, 0]


def test_a_new_attempt_forgets_the_penalties() -> None:
    logits = np.array([2.0, 1.0], dtype=np.float32)
    sampler = Sampler(SamplingSettings(temperature=0, presence_penalty=2.0))
    assert sampler.sample(logits) == 0
    sampler.restart()
    assert sampler.sample(logits) == 0


def test_bias_moves_a_token_and_ignores_unknown_ones() -> None:
    logits = np.array([2.0, 1.0], dtype=np.float32)
    settings = SamplingSettings(temperature=0, logit_bias={1: 5.0, 99: 100.0})
    assert Sampler(settings).sample(logits) == 1


@given(logits=SMALL, data=st.data())
def test_banned_tokens_are_not_drawn(logits: Logits, data: st.DataObject) -> None:
    banned = data.draw(st.sets(st.integers(0, logits.size + 5)))
    token = Sampler(SamplingSettings(seed=3)).sample(logits, banned)
    assert token not in banned or set(range(logits.size)) <= banned


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_do_not_stop_it(bad: float) -> None:
    logits = np.array([0.0, bad, 1.0], dtype=np.float32)
    assert Sampler(SamplingSettings(seed=1)).sample(logits) in (0, 1, 2)


def test_a_large_flat_vocabulary_is_cut_exactly() -> None:
    logits = np.random.default_rng(1).standard_normal(65_536).astype(np.float32)
    settings = SamplingSettings(top_p=0.5)
    probability = np.exp(logits.astype(np.float64))
    probability /= probability.sum()
    order = np.argsort(-probability)
    kept = set(order[: int(np.searchsorted(np.cumsum(probability[order]), 0.5)) + 2].tolist())
    sampler = Sampler(settings_with(settings, 5))
    assert {sampler.sample(logits) for _ in range(60)} <= kept


def kept_simply(weights: Logits, settings: SamplingSettings) -> Logits:
    """What the sampler keeps, by sorting everything: the definition."""
    order = np.argsort(-weights, kind="stable")
    if settings.top_k:
        order = order[: settings.top_k]
    if settings.top_p < 1:
        sums = np.cumsum(weights[order], dtype=np.float64)
        limit = settings.top_p * float(sums[-1])
        order = order[: int(np.searchsorted(sums, limit)) + 1]
    order = order[weights[order] >= settings.min_p]
    kept = np.zeros_like(weights)
    kept[order] = weights[order]
    return kept


def weights_of(logits: Logits, temperature: float) -> Logits:
    weights = logits - logits.max()
    weights /= np.float32(temperature)
    return np.exp(weights)


KEEPS = st.builds(
    SamplingSettings,
    temperature=st.floats(0.2, 2),
    top_p=st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.95, 0.999, 1.0]) | st.floats(0, 1),
    top_k=st.sampled_from([0, 0, 1, 2, 40, 3000, 100_000]) | st.integers(0, 50),
    min_p=st.sampled_from([0.0, 0.0, 0.05]) | st.floats(0, 1),
    seed=st.integers(0, 99),
)


def agree(logits: Logits, settings: SamplingSettings) -> None:
    weights = weights_of(logits, settings.temperature)
    kept = kept_simply(weights, settings)
    token = Sampler(settings).sample(logits)
    share = random.Random(settings.seed).random()
    sums = np.cumsum(kept, dtype=np.float64)
    assert kept[token] > 0
    below = sums[token] - float(kept[token])
    slack = 1e-9 * sums[-1]  # sums of 65k numbers round, in one order and in the other
    assert below - slack <= share * sums[-1] <= sums[token] + slack


@given(logits=SMALL, settings=KEEPS)
def test_it_is_the_simple_definition(logits: Logits, settings: SamplingSettings) -> None:
    agree(logits, settings)


@hypothesis_settings(max_examples=60)
@given(
    size=st.sampled_from([1500, 4096, 5000, 65_536]),
    spread=st.sampled_from([0.0, 1e-6, 1e-3, 0.3, 1.0, 4.0, 30.0]),
    steps=st.sampled_from([0, 3, 1000]),
    noise=st.integers(0, 2**32 - 1),
    settings=KEEPS,
)
def test_it_is_the_simple_definition_for_large_vocabularies(
    size: int, spread: float, steps: int, noise: int, settings: SamplingSettings
) -> None:
    values = np.random.default_rng(noise).standard_normal(size)
    if steps:  # many equals
        values = np.round(values * steps) / steps
    agree((values * spread).astype(np.float32), settings)


@given(
    weights=arrays(np.float32, st.integers(1, 900), elements=st.sampled_from([0, 1, 0.25])),
    share=st.sampled_from([0.0, 0.5, 1 - 2**-53]) | st.floats(0, 1, exclude_max=True),
)
def test_only_tokens_with_weight_are_picked(weights: Logits, share: float) -> None:
    weights[0] += weights.sum() == 0
    place = pick(weights, share)
    sums = np.cumsum(weights, dtype=np.float64)
    assert weights[place] > 0
    assert sums[place] - float(weights[place]) <= share * sums[-1] <= sums[place]
