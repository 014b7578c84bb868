"""The benchmark of many conversations, in small."""

from __future__ import annotations

from benchmarks.many import measure, table
from lambda_inference.model import shipped_model


def test_every_plan_gets_its_line() -> None:
    rows = list(
        measure(
            shipped_model(),
            "small",
            threads=1,
            conversations=[1, 3],
            drafts=[2],
            tokens=5,
            rounds=2,
            llama_server=None,
        )
    )
    assert [(row.conversations, row.drafts) for row in rows] == [(1, 1), (3, 1), (1, 2)]
    assert all(row.tokens_s > 0 and 0 < row.first_word_s <= row.reply_s for row in rows)
    assert all(row.first_word_p95_s >= row.first_word_s for row in rows)
    assert all(row.most_over_mean >= 1 for row in rows)
    lines = table(rows).splitlines()
    assert len(lines) == 5
    assert "1, best of 2" in lines[-1]
