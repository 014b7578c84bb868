"""From measured times to what a month gives for nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks.chat_models import REFERENCE, grown_tokenizer
from benchmarks.cost import LABELS, best, cold_share_of, rows_of, summary, table
from benchmarks.cost_page import SECTIONS, put
from benchmarks.function_figures import Figures, measure
from deploy.cost import FREE_GB_SECONDS, FREE_REQUESTS
from lambda_inference.model import shipped_model
from lambda_inference.talk.tokenizer import BpeTokenizer

ROOT = Path(__file__).parents[2]
ONE = Figures(
    name="Q8_0", cpus=1, init_s=0.5, cold_reply_s=2.0, reply_s=1.5, prefill_s=0.3, decode_s=1.1,
    ping_s=0.001, first_token_s=0.4, cold_first_token_s=1.0, memory_mb=520,
)  # fmt: skip
TWO = dataclasses.replace(ONE, cpus=2, reply_s=1.0)
PEER = dataclasses.replace(ONE, name=REFERENCE, reply_s=6.0, memory_mb=2000)


def test_a_part_of_a_cpu_takes_longer_and_costs_the_same() -> None:
    half, whole = rows_of([ONE], 0.0, memory=(1024, 1769))
    assert half.reply_s == pytest.approx(1.5 * 1769 / 1024)
    assert half.gb_seconds == pytest.approx(whole.gb_seconds) == pytest.approx(1.5 * 1769 / 1024)
    assert whole.free_replies == pytest.approx(FREE_GB_SECONDS / whole.gb_seconds, rel=0.01)
    assert whole.free_replies < FREE_GB_SECONDS / whole.gb_seconds, "pings take their part"


def test_a_second_thread_counts_from_two_whole_cpus_on() -> None:
    rows = list(rows_of([ONE, TWO], 0.0, memory=(1769, 3008, 3538, 10240)))
    assert [(row.threads, row.reply_s) for row in rows] == [(1, 1.5), (1, 1.5), (2, 1.0), (2, 1.0)]


def test_cold_replies_are_billed_with_their_init() -> None:
    (never,), (always,) = (list(rows_of([ONE], share, memory=(1769,))) for share in (0.0, 1.0))
    assert always.gb_seconds / never.gb_seconds == pytest.approx((0.5 + 2.0) / 1.5)


def test_requests_are_limited_too() -> None:
    quick = dataclasses.replace(ONE, reply_s=0.01)
    (row,) = rows_of([quick], 0.0, memory=(1769,), ping_minutes=0)
    assert row.free_replies == FREE_REQUESTS


def test_what_does_not_fit_is_said_and_never_the_best() -> None:
    rows = list(rows_of([ONE, PEER], 0.01))
    assert best(rows, LABELS[REFERENCE]).memory_mb == 2048
    lines = [line for line in table(rows).splitlines() if LABELS[REFERENCE] in line]
    assert [("does not fit" in line) for line in lines[:5]] == [True] * 4 + [False]
    told = summary(rows)
    assert f"at most {best(rows, LABELS[REFERENCE]).free_replies:,} free replies" in told
    assert "friend Q8_0:" in told


def test_the_cold_share_is_the_simulations() -> None:
    assert 0 < cold_share_of(ONE, 4) < 0.05 < cold_share_of(ONE, 0) < 0.5


def test_a_grown_vocabulary_is_a_vocabulary() -> None:
    source = (shipped_model().parent / "tokenizer.json").read_text("utf-8")
    grown = BpeTokenizer(grown_tokenizer(source, 6000))
    assert grown.vocab_size == 6000
    text = "Grüße, 你好 — how are you?\n\nfine"
    assert b"".join(map(grown.token_bytes, grown.encode(text))).decode() == text
    assert all(grown.token_bytes(number) for number in range(6000))


@pytest.mark.e2e
@getattr(pytest.mark, "lambda")
async def test_a_function_is_measured_as_lambda_would_bill_it() -> None:
    found = await measure("Q8_0", shipped_model(), starts=1, replies=1)
    assert (found.name, found.cpus) == ("Q8_0", 1)
    assert 0 < found.prefill_s + found.decode_s <= found.reply_s
    assert 0 < found.init_s < found.cold_first_token_s
    assert found.ping_s > 0
    assert shipped_model().stat().st_size / (1 << 20) < found.memory_mb < 1769


def test_a_section_of_the_page_is_written_anew_and_nothing_else() -> None:
    page = (ROOT / "docs/cost.md").read_text("utf-8")
    for section in SECTIONS:
        once = put(page, section, "| a |\n")
        assert once == put(once, section, "| a |")
        assert f"<!-- {section}: begin -->\n| a |\n<!-- {section}: end -->" in once
        assert len(once.splitlines()) <= len(page.splitlines()) + 1
    with pytest.raises(ValueError, match="no section"):
        put("nothing", "cost", "x")
