"""Which draft is the best, from the probabilities of its tokens."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_inference.talk.ranking import Candidate, Flaw, log_probability, ranked, score


def test_a_log_probability_is_that_of_the_whole_distribution() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32)) + np.float32(40)
    for token, share in enumerate((0.5, 0.3, 0.2)):
        assert log_probability(logits, token) == pytest.approx(math.log(share), abs=1e-5)
    far = np.array([-3e38, 0], np.float32)
    assert log_probability(far, 1) == 0
    assert log_probability(far, 0) < -1e38


def test_what_fits_everywhere_is_worth_less_than_what_fits_here() -> None:
    # As likely after the talk, less likely after nothing.
    bland, apt = score([-1, -1], [-1, -1]), score([-1, -1], [-6, -2])
    assert apt > bland
    assert bland == pytest.approx((-2 + 0.5 * 2) / 2**0.7)
    assert apt == pytest.approx((-2 + 0.5 * 8) / 2**0.7)
    assert score([-3], [-9], weight=0, length_power=0) == -3
    assert score([], []) == -math.inf


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.sampled_from("abcde"),
        st.floats(allow_nan=True),
        st.sampled_from(list(Flaw)),
    ),
    max_size=12,
)


@given(CANDIDATES)
def test_the_order_is_by_flaw_then_score_and_the_same_words_come_last(
    candidates: list[Candidate],
) -> None:
    order = ranked(candidates)
    assert sorted(order) == list(range(len(candidates)))
    words = [candidates[place].words for place in order]
    different = len(set(words))
    assert len(set(words[:different])) == different
    for better, worse in pairwise(order[:different]):
        a, b = candidates[better], candidates[worse]
        assert a.flaw < b.flaw or (a.flaw == b.flaw and (a.score >= b.score or math.isnan(b.score)))


def test_a_sound_draft_goes_before_any_other() -> None:
    candidates = [
        Candidate("", 9, Flaw.EMPTY),
        Candidate("again", 8, Flaw.SAID_BEFORE),
        Candidate("and so on and", 7, Flaw.CUT_OFF),
        Candidate("yes", -5),
        Candidate("no", -6),
        Candidate("yes", -7),
    ]
    assert ranked(candidates) == [3, 4, 2, 1, 0, 5]
