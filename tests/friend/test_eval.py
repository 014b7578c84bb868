"""`friend eval`, as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from friend import eval_commands
from friend.cli import app, main
from lambda_inference.gguf.convert import convert
from tests.lambda_inference.models import write_folder

LINES = [
    {"source": "topical-chat", "sub": "test_freq", "turns": ["hello there", "how are you?"] * 3},
    {"source": "chitchat", "turns": ["what music do you like?", "i am fine"]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("eval") / "tiny")


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    target = folder.parent / "tiny.gguf"
    convert(folder, target, quantization="Q8_0")
    return target


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "talks.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)))
    return path


def as_json(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["eval", "--json", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_json_has_a_row_a_file_format_and_source(folder: Path, data: Path) -> None:
    found = as_json(
        "--data", data, "--model", folder, "--format", "f32", "--format", "q8_0", "--floor", data,
        "--samples", 1, "--turns", 3, "--show",
    )  # fmt: skip
    assert (found["model"], found["weights"]) == ("tiny", "model.safetensors")
    places = [(row["file"], row["format"], row["name"]) for row in found["rows"]]
    assert places == [
        ("talks.jsonl", format_, name)
        for format_ in ("F32", "Q8_0", "5-gram")
        for name in ("chitchat", "topical-chat/test_freq", "all")
    ]
    assert all(row["bits_per_byte"] > 0 for row in found["rows"])
    assert found["sampled"]["replies"] == len(found["talks"][0]) == 3
    assert [one["user"] for one in found["talks"][0]] == ["hello there"] * 3
    assert found["sampled"]["repeated_replies"] == found["sampled"]["spoken_for_user"] == 0


def test_a_person_reads_tables(file: Path, data: Path) -> None:
    arguments = ["eval", "--data", str(data), "--model", str(file), "--turns", "3", "--show"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    for words in (
        "tiny (tiny.gguf)", "talks.jsonl", "topical-chat/test_freq", "Q8_0", "perplexity turns",
        "1 sampled conversations of 3 replies", "turns spoken for the user", "User: hello there",
    ):  # fmt: skip
        assert words in " ".join(shown.output.split()), words


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "{data}", "--model", "{file}", "--format", "F32"], "Give the model's folder"),
        (["--data", "{data}", "--model", "nowhere"], "There is no model at nowhere"),
        (["--data", "nothing.jsonl", "--model", "{file}"], "There is no file nothing.jsonl"),
        (["--data", "{data}", "--model", "{file}", "--samples", "9"], "and 9 are needed"),
        ([], "Missing option '--data'"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    file: Path,
    data: Path,
    arguments: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [one.format(data=data, file=file) for one in arguments]
    monkeypatch.setattr("sys.argv", ["friend", "eval", *filled])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert ended.value.code in (1, 2)
    assert sentence in " ".join(shown.err.split())
    assert shown.out == ""


def test_missing_packages_are_named_with_the_extra_to_install(
    folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = eval_commands.importlib.util.find_spec
    without_torch = lambda name: None if name == "torch" else real(name)  # noqa: E731
    monkeypatch.setattr(eval_commands.importlib.util, "find_spec", without_torch)
    arguments = ["eval", "--data", str(data), "--model", str(folder)]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 1
    assert "not installed (torch)" in shown.stderr
    assert "friend-bot[training]" in shown.stderr
    assert CliRunner().invoke(app, [*arguments, "--format", "F32"]).exit_code == 0


def turn(agent: int, words: str) -> dict[str, str]:
    return {"agent": f"agent_{agent}", "message": words}


CHANNEL = [
    {"type": "message", "user": "U2", "text": "hi <@U1>", "ts": "100.0"},
    {"type": "message", "user": "U1", "text": "hello", "ts": "110.0"},
]


@pytest.mark.parametrize(
    ("name", "content", "source"),
    [
        (
            "test_rare.json",
            json.dumps({"t_1": {"content": [turn(1, "Hi, do you like dogs?"), turn(2, "Yes")]}}),
            "topical-chat/test_rare",
        ),
        ("pairs.csv", "prompt,reply\nhi,hello\n", "pairs"),
        (
            "chat.jsonl",
            json.dumps({"messages": [{"role": r, "content": "hi"} for r in ("user", "assistant")]}),
            "chat",
        ),
        ("general/2024-05-01.json", json.dumps(CHANNEL), "slack"),
    ],
)
def test_it_reads_what_finetuning_reads(
    file: Path, tmp_path: Path, name: str, content: str, source: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    people = [{"id": "U1", "name": "ann"}, {"id": "U2", "name": "bob"}]
    (tmp_path / "users.json").write_text(json.dumps(people))
    rows = as_json(
        "--data", tmp_path / name.partition("/")[0], "--model", file, "--imitate", "ann"
    )["rows"]
    assert [(row["name"], row["conversations"], row["turns"]) for row in rows] == [
        (source, 1, 2), ("all", 1, 2)
    ]  # fmt: skip


def test_bad_lines_are_named_and_left_out(file: Path, data: Path) -> None:
    data.write_text(data.read_text() + "\nnonsense")
    shown = CliRunner().invoke(app, ["eval", "--json", "--data", str(data), "--model", str(file)])
    assert shown.exit_code == 0
    assert "1 bad record(s) left out: line 3: not JSON" in shown.stderr
    assert json.loads(shown.stdout)["rows"][-1]["conversations"] == 2
