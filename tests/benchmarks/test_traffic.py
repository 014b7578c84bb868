"""People and Lambda, as the keep-warm benchmark models them."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.keep_warm import Row, best_rate, months, table
from benchmarks.traffic import DAY, MONTH, Habits, Times, messages, pings, simulate
from deploy.settings import DeploySettings

TIMES = Times(init=0.5, cold_reply=1.5, reply=1.4, ping=0.001)


@pytest.mark.parametrize("amount", [20, 300])
def test_as_many_messages_come_as_were_asked_for(amount: int) -> None:
    found = messages(amount, 3 * MONTH, answer_s=1.4)
    assert found == sorted(found)
    assert len(found) == pytest.approx(3 * MONTH / DAY * amount, rel=0.15)
    assert found == messages(amount, 3 * MONTH, answer_s=1.4), "the same each time"


def test_people_sleep_and_write_in_bursts() -> None:
    found = messages(100, MONTH, answer_s=1.4)
    hours = Counter(int(at % DAY // 3600) for at in found)
    assert hours[3] < hours[15] / 10
    pauses = sorted(after - before for before, after in pairwise(found))
    assert pauses[len(pauses) // 2] < 60
    assert max(pauses) > 3600


def test_pings_come_on_time_or_a_little_late() -> None:
    assert pings(0, DAY) == []
    found = pings(4, DAY, late_s=60)
    assert len(found) == 359
    for number, at in enumerate(found, 1):
        assert 240 * number <= at <= 240 * number + 60


def test_what_is_busy_is_not_free_and_what_is_idle_ends() -> None:
    # Ends: 2.0 (cold), then 12.4 and, beside it, 13.0 (cold); the last comes too late for both.
    found = simulate([0, 11, 11, 400], [], TIMES, idle_s=60)
    assert found.cold == (True, False, True, True)
    assert found.billed_s == pytest.approx(3 * 2.0 + 1.4)
    assert found.cold_share == 0.75


def test_old_environments_are_replaced_though_they_are_used() -> None:
    found = simulate([float(at) for at in range(0, 100, 5)], [], TIMES, idle_s=60, lifetime_s=50)
    assert found.cold_replies == 2


@given(
    st.lists(st.floats(0, 5000), max_size=40),
    st.lists(st.floats(0, 5000), max_size=40),
    st.floats(1, 2000),
)
def test_an_environment_is_kept_longer_to_no_harm(
    asked: list[float], pinged: list[float], idle: float
) -> None:
    asked, pinged = sorted(asked), sorted(pinged)
    short = simulate(asked, pinged, TIMES, idle_s=idle)
    forever = simulate(asked, pinged, TIMES, idle_s=math.inf)
    assert sum(forever.cold) <= sum(short.cold) <= len(asked) + len(pinged)
    assert forever.billed_s <= short.billed_s + 1e-6
    assert short.cold_replies + short.cold_pings == sum(short.cold)


@given(st.lists(st.floats(0, 5000), min_size=1, max_size=40))
def test_pings_never_make_a_lone_talkers_reply_cold(asked: list[float]) -> None:
    # One at a time: nobody else is asked for while a reply or a ping is under way.
    asked = sorted({round(at / 10) * 10.0 for at in asked})
    pinged = [at + 5.0 for at in range(0, 5010, 50)]
    times = Times(0.5, 1.5, 1.4, 0.001)
    assert simulate([at + 1 for at in asked], pinged, times, idle_s=55).cold_replies <= 1


def test_the_deployed_rate_is_the_one_to_choose() -> None:
    rows = list(months(TIMES, traffic={20: 2, 500: 1}))
    assert best_rate(rows) == DeploySettings().keep_warm_minutes
    text = table(rows)
    assert text.count("\n") == 17
    assert "| 20 | never | 0 |" in text


def test_where_little_is_gained_the_cheapest_is_chosen() -> None:
    def row(rate: int, idle: int, cold: float, used: float) -> Row:
        return Row(500, rate, idle, 15_000, cold, 0, used)

    never = [row(0, 5, 0.02, 900), row(0, 45, 0.02, 900)]
    often = [row(4, 5, 0.015, 950), row(4, 45, 0.011, 950)]
    assert best_rate(never + often) == 0
    worse = [row(0, 5, 0.03, 900), row(0, 45, 0.02, 900)]
    assert best_rate(worse + often) == 4


def test_habits_say_how_long_a_conversation_is() -> None:
    lonely = messages(50, MONTH, habits=Habits(messages=1))
    assert simulate(lonely, [], TIMES, idle_s=60).cold_share > 0.9
