"""A model is found and described, or it is said in one sentence what is wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lambda_inference.errors import EngineUnavailable, ModelCorrupt, ModelNotFound
from lambda_inference.gguf.chat_template import ChatTemplate
from lambda_inference.gguf.convert import convert
from lambda_inference.gguf.jinja_labels import labels_of
from lambda_inference.model import describe, fingerprint, shipped_model
from lambda_inference.serving.host import load_model
from lambda_inference.settings import ModelSettings
from tests.lambda_inference.checkpoints import rwkv7, save


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_folder_and_a_file_tell_the_same(folder: Path, model_file: Path) -> None:
    one, other = describe(folder), describe(model_file)
    assert (one.id, one.architecture, one.template) == (
        other.id,
        other.architecture,
        other.template,
    )
    assert one.tokenizer().encode("hello there") == other.tokenizer().encode("hello there")
    assert one.weights == folder / "model.safetensors"
    assert describe(folder / "model.safetensors").weights == one.weights
    assert describe(folder, name="mine").id == "mine"


def test_the_recommended_drafts_go_with_the_model(copy: Path) -> None:
    assert describe(copy).drafts == 1
    change(copy, drafts=6)
    assert describe(copy).drafts == 6
    convert(copy / "model.safetensors", copy / "model.gguf", quantization="F32")
    (copy / "config.json").unlink()
    assert describe(copy / "model.gguf").drafts == 6


@pytest.mark.parametrize("drafts", [0, 33, True, "4", 2.0])
def test_drafts_that_are_no_number_of_drafts_are_refused(copy: Path, drafts: Any) -> None:
    change(copy, drafts=drafts)
    with pytest.raises(ModelCorrupt, match="drafts"):
        describe(copy)


def test_a_model_file_in_a_folder_is_preferred(copy: Path, model_file: Path) -> None:
    shutil.copy(model_file, copy / "tiny.gguf")
    assert describe(copy).weights == copy / "tiny.gguf"


def test_the_shipped_model_is_found_and_loads() -> None:
    path = shipped_model()
    description = describe(path)
    assert description.architecture == "rwkv7"
    assert description.tokenizer().reserved(description.template.user) is not None


def test_nothing_there_says_what_to_set(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ModelNotFound):
            describe(path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelNotFound, match="gguf"):
        describe(tmp_path / "notes.txt")


def test_several_models_in_a_folder_are_not_chosen_from(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "a.safetensors")
    (copy / "b.safetensors").write_bytes(b"")
    with pytest.raises(ModelNotFound, match="several"):
        describe(copy)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "null", '{"architecture": "rwkv7", "template": []}', "[" * 100_000,
     '{"architecture": "rwkv5"}', '{"architecture": "rwkv7", "template": {"user": ""}}',
     '{"architecture": "rwkv7", "template": {"separator": 5}}'],
)  # fmt: skip
def test_a_broken_config_says_so(copy: Path, text: str) -> None:
    (copy / "config.json").write_text(text)
    with pytest.raises(ModelCorrupt, match=r"config\.json"):
        describe(copy)


def test_missing_parts_are_named(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelNotFound, match=r"tokenizer\.json"):
        describe(copy).tokenizer()
    (copy / "config.json").unlink()
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        describe(copy)


@pytest.mark.parametrize("cut", [0, 4, 8, 20, 1000, -1])
def test_a_cut_off_file_is_noticed_before_it_is_loaded(copy: Path, cut: int) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    with pytest.raises(ModelCorrupt, match=r"model\.safetensors"):
        describe(copy)


@pytest.mark.parametrize("header", [b"{}", b"[]", b'{"a": {}}', b'{"a": {"data_offsets": [0]}}'])
def test_a_damaged_header_is_noticed(copy: Path, header: bytes) -> None:
    (copy / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelCorrupt):
        describe(copy)


def test_a_huge_header_is_not_read(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelCorrupt):
        describe(copy)


def test_a_tokenizer_of_another_model_is_noticed(copy: Path) -> None:
    pytest.importorskip("torch")
    weights = rwkv7(layers=1, width=64, vocab=280, head=32, ranks=(8, 8, 8, 8))
    save(weights, copy / "model.safetensors")
    with pytest.raises(ModelCorrupt, match="different models"):
        load_model(ModelSettings(file=str(copy)), state_cache_bytes=0)


def test_a_model_file_that_is_none_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    for content in (b"", b"PK\x03\x04", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 16):
        path.write_bytes(content)
        with pytest.raises(ModelCorrupt, match=r"x\.gguf"):
            describe(path)


def test_a_file_of_somebody_else_is_described_by_its_jinja(
    model_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = tmp_path / "foreign.gguf"
    content = model_file.read_bytes().replace(b"friend.template", b"others.template")
    foreign.write_bytes(content)
    template = describe(foreign).template
    assert (template.user, template.assistant, template.separator) == ("User:", "Friend:", "\n\n")
    assert caplog.records == []
    strange = tmp_path / "strange.gguf"
    strange.write_bytes(content.replace(b"message['role'] ==", b"message['roll'] !="))
    assert describe(strange).template == ChatTemplate()
    assert "may answer strangely" in caplog.text


WORLD = (
    "{% for message in messages %}{% if message.role == 'system' %}System: {{ message.content }}"
    '\n\n{% elif message.role == "user" -%}User: {{ message.content }}\n\n{% else %}'
    "{% if message.role == 'assistant' %}{{ 'Assistant: ' + message.text + '\\n\\n' }}{% endif %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
CHATML = (
    "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content }}<|im_end|>"
    "{% elif m.role == 'assistant' %}<|im_start|>assistant\n{{ m.content }}{% endif %}{% endfor %}"
)


def test_labels_are_found_in_jinja() -> None:
    assert labels_of("rwkv-world") == ChatTemplate()
    assert labels_of(WORLD) == ChatTemplate(system="System:")
    assert labels_of(WORLD.replace("Assistant", "Little Bot")) == ChatTemplate(
        assistant="Little Bot:", system="System:"
    )


@pytest.mark.parametrize(
    "source", ["", CHATML, WORLD.replace("\n\n", "\n").replace("\\n\\n", ""), "{% if" * 5000]
)
def test_other_jinja_is_not_guessed_at(source: str) -> None:
    assert labels_of(source) is None


def test_a_missing_engine_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EngineUnavailable, match="torch"):
        load_model(ModelSettings(file=str(folder)), state_cache_bytes=0)


def test_the_fingerprint_tells_content_apart_and_not_names(tmp_path: Path) -> None:
    for name, content in {"a": b"x" * 5000, "b": b"x" * 5000, "c": b"x" * 4999 + b"y"}.items():
        (tmp_path / name).write_bytes(content)
    one, same, other = (fingerprint(tmp_path / name) for name in "abc")
    assert one == same != other


def test_a_large_file_is_told_apart_by_samples(tmp_path: Path) -> None:
    for name, at in {"a": None, "b": (65 << 20) - 1, "c": 0, "d": (65 << 20) // 255 * 7}.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(65 << 20)
            if at is not None:
                file.seek(at)
                file.write(b"\1")
    assert len({fingerprint(tmp_path / name) for name in "abc"}) == 3
