"""The n-gram model: probabilities that sum to one, and those counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning.evaluation.ngram import NGram, _discounts

A, B, C, D = range(4)


def test_bigrams_by_hand() -> None:
    """a b a c and a b: counts of 1 twice and of 2 never, so half is taken off each count.

    Bigrams: ^a 2, ab 2, ba 1, ac 1. Two of 1 and two of 2: D = 2 / (2 + 2*2) = 1/3 for all.
    Different tokens before: a 2 (^, b), b 1, c 1. Two of 1 and one of 2: D = 2 / (2 + 2) = 1/2.
    """
    model = NGram.train([[A, B, A, C], [A, B]], 4, order=2)
    left = 3 * 0.5 / 4  # of the single tokens, to the uniform distribution
    a, b, c, d = (1.5 / 4 + left / 4, 0.5 / 4 + left / 4, 0.5 / 4 + left / 4, left / 4)
    assert a + b + c + d == pytest.approx(1)

    third = 1 / 3
    after_a = [2 / 9 * a, (2 - third) / 3 + 2 / 9 * b, (1 - third) / 3 + 2 / 9 * c, 2 / 9 * d]
    assert model.distribution([A]) == pytest.approx(after_a)
    after_b = [2 / 3 + third * a, third * b, third * c, third * d]
    assert model.distribution([A, B]) == pytest.approx(after_b)
    # Nothing was ever seen after c or d: what is known of the single tokens is all there is.
    assert model.distribution([D, D, C]) == pytest.approx([a, b, c, d])
    first = [(2 - third) / 2 + third / 2 * a, *(third / 2 * np.array([b, c, d]))]
    assert model.distribution([]) == pytest.approx(first)


def test_a_sequence_is_its_tokens_after_those_before_them() -> None:
    model = NGram.train([[A, B, A, C], [A, B]], 4, order=3)
    sequences = [[A, B, D], [C], [B, A, C, C]]
    found = model.log2_probabilities(sequences)
    assert [len(one) for one in found] == [3, 1, 4]
    for sequence, logs in zip(sequences, found, strict=True):
        for place, token in enumerate(sequence):
            wanted = math.log2(model.distribution(sequence[:place])[token])
            assert logs[place] == pytest.approx(wanted)


def test_discounts_are_chen_and_goodmans() -> None:
    counts = np.repeat([1, 2, 3, 4], [40, 20, 10, 5])
    plain = 40 / 80
    assert _discounts(counts) == pytest.approx(
        [0, 1 - 2 * plain * 20 / 40, 2 - 3 * plain * 10 / 20, 3 - 4 * plain * 5 / 10]
    )


TEXTS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=30), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(texts=TEXTS, context=st.lists(st.integers(0, 6), max_size=7), order=st.integers(1, 5))
def test_probabilities_sum_to_one(texts: list[list[int]], context: list[int], order: int) -> None:
    chances = NGram.train(texts, 7, order=order).distribution(context)
    assert chances.sum() == pytest.approx(1)
    assert (chances > 0).all()


def test_a_longer_memory_predicts_better() -> None:
    random = np.random.default_rng(0)
    words = [random.integers(0, 30, 6).tolist() for _ in range(40)]

    def texts(count: int) -> list[list[int]]:
        return [[t for w in random.integers(0, 40, 12) for t in words[w]] for _ in range(count)]

    learnt, held_out = texts(150), texts(20)
    bits = []
    for order in (1, 2, 3, 5):
        found = NGram.train(learnt, 30, order=order).log2_probabilities(held_out)
        bits.append(-sum(float(one.sum()) for one in found))
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < 0.5 * bits[0]
    assert NGram.train(learnt, 30).order == 5
