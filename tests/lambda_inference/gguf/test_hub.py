"""`friend model pull` against a server that speaks as the hub does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambda_inference.errors import EngineUnavailable, ModelCorrupt, ModelError, ModelNotFound
from lambda_inference.gguf.convert import convert
from lambda_inference.gguf.hub import pull
from lambda_inference.gguf.reader import read_metadata
from tests.lambda_inference import checkpoints
from tests.lambda_inference.gguf.hub_server import Hub, hub_serving

ROOT = Path(__file__).parents[3]
REPO = "someone/tiny"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    checkpoints.save_tokenizer(folder, 300)
    weights = checkpoints.rwkv7(layers=1, width=64, vocab=300, head=32)
    checkpoints.save(weights, folder / "model.safetensors")
    (folder / "config.json").write_text('{"name": "published", "architecture": "rwkv7"}')
    convert(folder, folder / "tiny.gguf")
    return folder


@pytest.fixture
def hub(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING")):
            monkeypatch.delenv(name)
    monkeypatch.setattr("lambda_inference.gguf.hub._PAUSE", 0.01)
    with hub_serving({"tiny.gguf": (model_folder / "tiny.gguf").read_bytes()}) as serving:
        yield serving


def fetch(hub: Hub, to: Path, **options: object) -> Path:
    return pull(REPO, to=to, endpoint=hub.url, **options)  # type: ignore[arg-type]


def friend(hub: Hub, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "friend", "model", *arguments],
        env=os.environ | {"HF_ENDPOINT": hub.url, "PYTHONPATH": str(ROOT), "COLUMNS": "500"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_only_model_of_a_repository_is_fetched(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    path = fetch(hub, tmp_path / "models", progress=lambda *step: seen.append(step))
    size = len(hub.files["tiny.gguf"])
    assert path == tmp_path / "models" / "tiny.gguf"
    assert path.read_bytes() == hub.files["tiny.gguf"]
    assert [file.name for file in path.parent.iterdir()] == ["tiny.gguf"]
    assert seen[0] == ("tiny.gguf", 0, size)
    assert seen[-1] == ("tiny.gguf", size, size)
    assert fetch(hub, tmp_path / "models", revision="v1") == path
    assert hub.ranges == [None], "what is whole is not fetched again"


def test_a_broken_connection_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = [5000, 7000]
    path = fetch(hub, tmp_path)
    assert path.read_bytes() == hub.files["tiny.gguf"]
    assert hub.ranges == [None, "bytes=5000-", "bytes=12000-"]


def test_a_killed_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.stall_after = 6000
    process = friend(hub, "pull", REPO, "--to", str(tmp_path))
    try:
        assert hub.stalled.wait(30)
        part = None
        while part is None or part.stat().st_size < 6000:
            part = next(tmp_path.glob("tiny.gguf.*.part"), None)
            assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (tmp_path / "tiny.gguf").exists()
    hub.stall_after = None
    assert fetch(hub, tmp_path).read_bytes() == hub.files["tiny.gguf"]
    assert hub.ranges == [None, "bytes=6000-"]
    assert not part.exists()


def test_a_server_without_ranges_starts_over(hub: Hub, tmp_path: Path) -> None:
    hub.break_after, hub.ignore_range = [5000], True
    assert fetch(hub, tmp_path).read_bytes() == hub.files["tiny.gguf"]


def test_a_wrong_checksum_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.checksums["tiny.gguf"] = "0" * 64
    with pytest.raises(ModelCorrupt, match="checksum"):
        fetch(hub, tmp_path)
    assert list(tmp_path.glob("tiny*")) == []


def test_an_unknown_kind_of_checksum_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.checksums["tiny.gguf"] = "v1-abc"
    with pytest.raises(ModelCorrupt, match="no checksum"):
        fetch(hub, tmp_path)
    assert list(tmp_path.glob("tiny*")) == []


def test_a_small_file_is_checked_too(hub: Hub, model_folder: Path, tmp_path: Path) -> None:
    del hub.files["tiny.gguf"]
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        hub.files[name] = (model_folder / name).read_bytes()
    hub.checksums["tokenizer.json"] = "1" * 40
    with pytest.raises(ModelCorrupt, match=r"tokenizer\.json"):
        fetch(hub, tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()


def test_a_damaged_or_older_copy_is_replaced(hub: Hub, tmp_path: Path) -> None:
    right = hub.files["tiny.gguf"]
    (tmp_path / "tiny.gguf").write_bytes(right[:-1] + b"?")
    (tmp_path / "tiny.gguf.0123456789ab.part").write_bytes(b"of an older version")
    assert fetch(hub, tmp_path).read_bytes() == right
    assert [path.name for path in tmp_path.glob("tiny*")] == ["tiny.gguf"]


def test_a_checkpoint_comes_with_its_tokenizer_and_is_converted(
    hub: Hub, model_folder: Path, tmp_path: Path
) -> None:
    del hub.files["tiny.gguf"]
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        hub.files[f"fine/{name}"] = (model_folder / name).read_bytes()
    hub.files["README.md"] = hub.files["tokenizer.json"] = b"not this one"
    process = friend(hub, "pull", f"{REPO}:fine/model.safetensors", "--to", str(tmp_path),
                     "--revision", "v1", "--type", "f16")  # fmt: skip
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert str(tmp_path / "published.F16.gguf") in out
    assert read_metadata(tmp_path / "published.F16.gguf")["general.name"] == "published"
    assert not (tmp_path / "README.md").exists()


def test_several_models_are_not_chosen_from(hub: Hub, tmp_path: Path) -> None:
    hub.files["other.gguf"] = b"GGUF"
    with pytest.raises(ModelNotFound, match=r"someone/tiny:FILE: tiny\.gguf, other\.gguf"):
        fetch(hub, tmp_path)
    assert fetch(hub, tmp_path, file="other.gguf").name == "other.gguf"
    with pytest.raises(ModelNotFound, match=r"no file none\.gguf.*other\.gguf"):
        fetch(hub, tmp_path, file="none.gguf")
    hub.files.clear()
    with pytest.raises(ModelNotFound, match=r"holds no \.gguf"):
        fetch(hub, tmp_path)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((403, "GatedRepo"), "accept its terms"),
        ((401, "RepoNotFound"), "no model someone/tiny"),
        ((500, ""), "refused.*500"),
    ],
)
def test_refusals_get_a_sentence(
    refusal: tuple[int, str], words: str, hub: Hub, tmp_path: Path
) -> None:
    hub.refuse = refusal
    with pytest.raises(ModelError, match=words):
        fetch(hub, tmp_path)


def test_what_is_not_there_gets_a_sentence(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no model nobody/none"):
        pull("nobody/none", to=tmp_path, endpoint=hub.url)
    with pytest.raises(ModelNotFound, match="no revision v9"):
        fetch(hub, tmp_path, revision="v9")
    with pytest.raises(ModelNotFound, match="OWNER/NAME"):
        pull("a/b/c", to=tmp_path, endpoint=hub.url)
    with hub_serving({}) as gone:
        pass
    with pytest.raises(ModelError, match="cannot be reached"):
        fetch(gone, tmp_path)


def test_a_missing_package_is_named(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EngineUnavailable, match=r"friend-bot\[hub\]"):
        fetch(hub, tmp_path)


def test_a_token_is_sent_to_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(hub, tmp_path)
    assert hub.tokens == {"Bearer hf_secret"}
