"""`friend model convert` and `info`, as a person calls them."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from friend.cli import main
from tests.lambda_inference import checkpoints

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def friend(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `friend model ...`: exit status, output, errors."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["friend", "model", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "400")
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoints.save_tokenizer(tmp_path, 300)
    weights = checkpoints.rwkv7(layers=2, width=64, vocab=300, head=32)
    checkpoints.save(weights, tmp_path / "model.safetensors")
    template = {"user": "User:", "assistant": "Friend:", "separator": "\n\n", "end_of_text": 0}
    config = {"name": "tiny", "architecture": "rwkv7", "template": template}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize("generation", ["rwkv4", "rwkv7"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_checkpoint_becomes_a_file_that_info_describes(
    generation: str, suffix: str, friend: Run, tmp_path: Path
) -> None:
    weights = (
        checkpoints.rwkv7(layers=2, width=64, vocab=300, head=32)
        if generation == "rwkv7"
        else checkpoints.rwkv4(layers=2, width=64, vocab=300)
    )
    source = checkpoints.save(weights, tmp_path / f"mine{suffix}")
    (tmp_path / "words").mkdir()
    tokenizer = checkpoints.save_tokenizer(tmp_path / "words", 300)
    target = tmp_path / "out" / "m.gguf"
    assert friend("convert", source, "-o", target, "--tokenizer", tokenizer)[0] == 1
    target.parent.mkdir()
    status, out, err = friend(
        "convert", source, "-o", target, "--type", "q4_0", "--tokenizer", tokenizer, "--name", "me"
    )
    assert (status, err.strip()) == (0, "")
    assert "m.gguf" in out
    status, out, _ = friend("info", target, "--json")
    assert status == 0
    facts = json.loads(out)
    assert facts["name"] == "me"
    assert facts["architecture"] == generation
    assert (facts["layers"], facts["width"], facts["vocabulary"]) == (2, 64, 300)
    assert facts["head_size"] == (32 if generation == "rwkv7" else None)
    assert facts["tokenizer"] == "BPE"
    assert facts["bytes"] == target.stat().st_size
    assert set(facts["weights_by_type"]) == {"F32", "Q8_0", "Q4_0"}
    assert sum(facts["weights_by_type"].values()) == facts["parameters"]
    assert facts["runs"] is True
    assert facts["template"] is None
    assert "tensors" not in facts


def test_info_shows_name_template_and_tensors(friend: Run, folder: Path) -> None:
    assert friend("convert", folder, "-o", folder / "m.gguf")[0] == 0
    status, out, _ = friend("info", folder / "m.gguf", "--tensors")
    assert status == 0
    for words in (
        "tiny",
        "rwkv7",
        "'Friend:'",
        "runs here",
        "yes",
        "300 x 64",
        "token_embd.weight",
    ):
        assert words in out
    facts = json.loads(friend("info", folder / "m.gguf", "--tensors", "--json")[1])
    assert facts["template"]["assistant"] == "Friend:"
    assert "Friend:" in facts["chat_template"]
    embedding = facts["tensors"][0]
    assert embedding == {
        "name": "token_embd.weight",
        "type": "Q8_0",
        "shape": [300, 64],
        "bytes": 300 * 64 // 32 * 34,
    }


def test_info_says_whether_a_learnt_state_fits_the_model_in_use(
    friend: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    from lambda_inference.states.learnt import identity_of

    friend("convert", folder, "-o", folder / "m.gguf", "--type", "Q4_0")
    state = folder / "pirate.safetensors"
    shape = {"layers": 2, "width": 64, "vocab_size": 300, "head_size": 32}
    metadata = {
        "format": "friend-initial-state-1",
        "architecture": "rwkv7",
        "shape": json.dumps(shape),
        "fingerprint": identity_of(folder / "model.safetensors").fingerprint,
    }
    zeros = {f"blocks.{n}.wkv": np.zeros((2, 32, 32), np.float16) for n in range(2)}
    save_file(zeros, state, metadata=metadata)
    monkeypatch.setenv("FRIEND_MODEL_FILE", str(folder / "m.gguf"))
    status, out, _ = friend("info", state)
    assert status == 0
    for words in (
        "learnt initial state",
        "rwkv7",
        "4,096",
        f"checkpoint {metadata['fingerprint'][:12]}",
    ):
        assert words in out
    facts = json.loads(friend("info", state, "--json")[1])
    assert facts["fits"] is True
    assert (facts["layers"], facts["width"], facts["head_size"]) == (2, 64, 32)
    monkeypatch.delenv("FRIEND_MODEL_FILE")
    assert "fits here" in friend("info", state)[1]
    assert "learnt with another model" in json.loads(friend("info", state, "--json")[1])["fits"]
    state.write_bytes(state.read_bytes().replace(b'"layers\\": 2', b'"layers\\": 3'))
    status, out, err = friend("info", state)
    assert (status, out) == (1, "")
    assert err == f"friend: The learnt state {state} is damaged. Copy or learn it again.\n"


def test_a_file_for_another_program_is_described_all_the_same(friend: Run, folder: Path) -> None:
    friend("convert", folder, "-o", folder / "m.gguf")
    data = (folder / "m.gguf").read_bytes()
    at = data.index(b"general.architecture") + len(b"general.architecture") + 4
    (folder / "m.gguf").write_bytes(data[:at] + struct.pack("<Q5s", 5, b"llama") + data[at + 13 :])
    status, out, _ = friend("info", folder / "m.gguf", "--json")
    assert status == 0
    facts = json.loads(out)
    assert facts["architecture"] == "llama"
    assert "architecture" in facts["runs"]


def test_failures_are_one_sentence(friend: Run, folder: Path) -> None:
    for arguments, words in [
        (("info", folder / "none.gguf"), "no model file at"),
        (("info", folder / "model.safetensors"), "not a GGUF file"),
        (("info", folder), "cannot be opened"),
        (("convert", folder / "none.pth", "-o", folder / "m.gguf"), "no checkpoint at"),
        (("convert", folder / "config.json", "-o", folder / "m.gguf"), "cannot be read"),
        (("convert", folder, "-o", folder), "cannot be written"),
        (("convert", folder, "-o", folder / "none" / "m.gguf"), "cannot be written"),
        (("convert", folder, "-o", folder / "m.gguf", "--tokenizer", folder / "x"), "tokenizer"),
    ]:
        status, out, err = friend(*arguments)
        assert (status, out) == (1, "")
        assert err.startswith("friend: ")
        assert words in err
        assert "Traceback" not in err
        assert err.count("\n") == 1
    assert friend("convert", folder, "-o", folder / "m.gguf", "--type", "Q9")[0] == 2
    assert not (folder / "m.gguf").exists()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(friend: Run, folder: Path) -> None:
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        status, _, err = friend("convert", folder, "-o", folder / "m.gguf")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert status == 1
    assert "cannot be written" in err
    assert list(folder.glob("m.gguf*")) == []
