"""Bad lines are counted and named; broken files get a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zstandard

from finetuning.data.corpus import BadLines, read_conversations
from finetuning.errors import CorpusError

GOOD = json.dumps({"source": "s", "turns": ["hi", "hello\n you"]})


def test_bad_lines_are_left_out_and_named_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    bad_lines = ["{", "[1]", '{"turns": "x"}', '{"turns": ["alone"]}', '{"turns": ["a", " "]}']
    path.write_text("\n".join([GOOD, *bad_lines, GOOD]))
    bad = BadLines()

    conversations = list(read_conversations(path, bad))

    assert [one.turns for one in conversations] == [("hi", "hello you")] * 2
    assert [line for line, _ in bad.found] == [2, 3, 4, 5, 6]
    report = bad.report(path)
    assert "5 bad line(s)" in report
    assert "line 2: not JSON" in report
    assert "line 6: an empty turn" in report


def test_compressed_and_plain_files_read_alike(tmp_path: Path) -> None:
    plain, packed = tmp_path / "talk.jsonl", tmp_path / "talk.jsonl.zst"
    plain.write_text(GOOD)
    packed.write_bytes(zstandard.compress(GOOD.encode()))
    assert list(read_conversations(plain)) == list(read_conversations(packed))


def test_a_missing_file_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"There is no file .*nowhere\.jsonl"):
        list(read_conversations(tmp_path / "nowhere.jsonl"))


def test_a_foreign_archive_gets_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl.zst"
    path.write_bytes(b"this is no archive")
    with pytest.raises(CorpusError, match="cannot be read"):
        list(read_conversations(path))
