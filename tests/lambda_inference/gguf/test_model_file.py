"""Conversion, the metadata reader, and files that are not what they claim to be."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambda_inference.engine.native import NativeEngine
from lambda_inference.errors import ModelCorrupt, ModelNotFound
from lambda_inference.gguf.chat_template import TEMPLATE_KEY
from lambda_inference.gguf.checkpoint import open_checkpoint
from lambda_inference.gguf.convert import convert
from lambda_inference.gguf.reader import read_info, read_metadata
from lambda_inference.gguf.vocabulary import escape, unescape, world_tokens
from tests.lambda_inference import checkpoints

ModelFile = Callable[..., Path]


# --- what is written -------------------------------------------------------------------------


def test_rwkv7_files_have_llama_cpps_names(model_file: ModelFile) -> None:
    """The gguf package's list for the architecture is llama.cpp's own."""
    path = model_file("rwkv7", "Q8_0")
    patterns = [gguf.TENSOR_NAMES[t] for t in gguf.MODEL_TENSORS[gguf.MODEL_ARCH.RWKV7]]
    wanted = {p.format(bid=i) for p in patterns for i in range(3)}
    names = {tensor.name.rsplit(".", 1)[0] for tensor in read_info(path).tensors}
    assert names == wanted
    info = read_info(path)
    shapes = {tensor.name: tensor.shape for tensor in info.tensors}
    # llama.cpp: {n_embd, 1, 1, 6}; the first layer's v factors have the rank of a.
    assert shapes["blk.1.time_mix_lerp_fused.weight"] == (6, 1, 1, 192)
    assert shapes["blk.0.time_mix_v1.weight"] == shapes["blk.0.time_mix_a1.weight"] == (64, 192)
    assert shapes["blk.1.time_mix_v1.weight"] == (32, 192)
    assert info.metadata["rwkv7.wkv.head_size"] == 64
    assert info.metadata["rwkv7.attention.gate_lora_rank"] == 128
    assert info.metadata["rwkv7.attention.head_count"] == 0


@pytest.mark.parametrize("name", ["rwkv7", "rwkv4", "rwkv7-odd"])
@pytest.mark.parametrize("quantization", ["F32", "F16", "Q8_0", "Q4_0"])
def test_the_gguf_package_reads_our_files(
    name: str, quantization: str, model_file: ModelFile, checkpoint: Callable[[str], Path]
) -> None:
    path = model_file(name, quantization)
    theirs = gguf.GGUFReader(path)
    ours = read_info(path)
    assert [(t.name, int(t.n_bytes)) for t in theirs.tensors] == [
        (t.name, t.nbytes) for t in ours.tensors
    ]
    weights = open_checkpoint(checkpoint(name))
    tensors = {t.name: t for t in theirs.tensors}
    key = tensors["blk.0.time_mix_key.weight"]
    assert key.tensor_type.name == quantization
    values = gguf.quants.dequantize(key.data, key.tensor_type)
    exact = weights["blocks.0.att.key.weight"]
    error = np.abs(values - exact).max() / np.abs(exact).max()
    assert error < {"F32": 1e-9, "F16": 1e-3, "Q8_0": 0.005, "Q4_0": 0.13}[quantization]
    norm = tensors["blk.0.attn_norm.weight"]
    assert norm.tensor_type.name == "F32"
    assert np.array_equal(norm.data, weights["blocks.0.ln1.weight"])


def test_metadata_agrees_with_the_gguf_package(model_file: ModelFile) -> None:
    path = model_file("rwkv7")
    theirs = gguf.GGUFReader(path)
    ours = read_metadata(path)
    wanted = {k: f.contents() for k, f in theirs.fields.items() if not k.startswith("GGUF.")}
    assert ours == wanted
    some = read_metadata(path, {"tokenizer.huggingface.json", "general.architecture"})
    assert some == {k: wanted[k] for k in ("tokenizer.huggingface.json", "general.architecture")}
    assert read_metadata(path, {"nothing.of.the.kind"}) == {}
    order = list(ours)
    assert order.index("tokenizer.huggingface.json") < order.index("tokenizer.ggml.tokens")


def test_a_file_may_be_converted_anew_while_it_is_in_use(tmp_path: Path) -> None:
    """The new file takes the name; the old one lives on for whoever has it mapped."""
    checkpoints.save_tokenizer(tmp_path, 300)
    target = tmp_path / "m.gguf"
    replies: list[np.ndarray] = []
    for seed in (1, 2):
        weights = checkpoints.rwkv7(layers=2, width=64, vocab=300, head=32, seed=seed)
        checkpoints.save(weights, tmp_path / "model.safetensors")
        before = NativeEngine(target, threads=1) if target.exists() else None
        convert(tmp_path, target)
        if before is not None:
            assert np.array_equal(before.forward([1, 2, 3], None)[0], replies[0])
        replies.append(NativeEngine(target, threads=1).forward([1, 2, 3], None)[0])
    assert not np.array_equal(replies[0], replies[1])


def test_a_file_cut_short_while_in_use_gets_a_sentence(
    model_file: ModelFile, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    shutil.copyfile(model_file("rwkv4"), path)
    engine = NativeEngine(path, threads=2)
    logits, state = engine.forward([1, 2, 3], None)
    whole = path.read_bytes()
    os.truncate(path, len(whole) // 2)
    for tokens in ([4], [4, 5, 6]):
        with pytest.raises(ModelCorrupt, match="shortened while in use"):
            engine.forward(tokens, state)
    path.write_bytes(whole)  # the same file again, so the mapping is whole again
    assert np.array_equal(engine.forward([1, 2, 3], None)[0], logits)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_both_kinds_of_checkpoints_convert_alike(suffix: str, tmp_path: Path) -> None:
    weights = checkpoints.rwkv7(layers=2, width=64, vocab=300, head=32)
    checkpoints.save_tokenizer(tmp_path, 300)
    source = checkpoints.save(weights, tmp_path / f"model{suffix}")
    seen: list[tuple[int, int, str]] = []
    convert(source, tmp_path / "a.gguf", progress=lambda *step: seen.append(step))
    total = len(read_info(tmp_path / "a.gguf").tensors)
    assert [step[:2] for step in seen] == [(i + 1, total) for i in range(total)]
    assert list(tmp_path.glob("*.part")) == []
    data = gguf.GGUFReader(tmp_path / "a.gguf").tensors
    assert np.array_equal(
        {t.name: t for t in data}["blk.1.time_mix_w0.weight"].data.reshape(-1),
        weights["blocks.1.att.w0"].reshape(-1),
    )


def test_bfloat16_safetensors_need_no_torch_to_read(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    values = torch.randn(7, 5).to(torch.bfloat16)
    save_file({"x": values, "y": values.half(), "z": values.double()}, tmp_path / "m.safetensors")
    read = open_checkpoint(tmp_path / "m.safetensors")
    for name in ("x", "y", "z"):
        assert np.array_equal(read[name], values.float().numpy())
        assert read.shape(name) == (7, 5)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with a checkpoint and its tokenizer, and no config.json."""
    checkpoints.save_tokenizer(tmp_path, 300)
    weights = checkpoints.rwkv7(layers=1, width=64, vocab=300, head=32)
    checkpoints.save(weights, tmp_path / "model.safetensors")
    return tmp_path


TALK = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": " hello ", "name": "Ann"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "and you?"},
]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "User: hello\n\nFriend: hi\n\nUser: and you?\n\nFriend:"),
        (
            {"end_of_text": 0},
            "<|endoftext|>User: hello\n\nFriend: hi\n\nUser: and you?\n\nFriend:",
        ),
        (
            {"end_of_text": "<|endoftext|>", "system": "System:", "names": True},
            "<|endoftext|>System: be kind\n\nAnn: hello\n\nFriend: hi\n\nUser: and you?\n\nFriend:",
        ),
    ],
)
def test_name_and_template_come_from_the_config(
    changes: dict[str, object], text: str, tiny: Path
) -> None:
    """What the server reads and the Jinja text that other programs read write the same."""
    import jinja2

    from lambda_inference.model import describe
    from lambda_inference.talk.prompt import Message, PromptBuilder

    template = {"user": "User:", "assistant": "Friend:", "separator": "\n\n", "end_of_text": None}
    config = {"name": "tiny", "architecture": "rwkv7", "template": template | changes}
    (tiny / "config.json").write_text(json.dumps(config))
    folder = describe(tiny)
    convert(tiny, tiny / "m.gguf")
    metadata = read_metadata(tiny / "m.gguf")
    assert metadata["general.name"] == "tiny"
    defaults = {"system": None, "names": False}
    assert json.loads(str(metadata[TEMPLATE_KEY])) == defaults | template | changes
    file = describe(tiny / "m.gguf")
    assert (file.id, file.template) == (folder.id, folder.template)

    jinja = jinja2.Template(str(metadata["tokenizer.chat_template"]))
    assert jinja.render(messages=TALK, add_generation_prompt=True) == text
    tokenizer = file.tokenizer()
    builder = PromptBuilder(file.template, tokenizer)
    prompt = builder.build([Message(m["role"], m["content"], m.get("name")) for m in TALK])  # type: ignore[arg-type]
    tokens = [token for turn in (*prompt.turns, prompt.opening) for token in turn]
    assert b"".join(map(tokenizer.token_bytes, tokens)).decode() == text


@pytest.mark.parametrize(("separator", "end"), [("\n\n", 2), ("\n", 0)])
def test_a_turns_end_is_named_for_other_programs(separator: str, end: int, tmp_path: Path) -> None:
    """As a special token, the separator prints as nothing there and would not end a reply."""
    checkpoints.save_tokenizer(tmp_path, 300)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    entry = tokenizer["added_tokens"][0]
    tokenizer["added_tokens"].append(entry | {"id": 2, "content": "\n\n"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    weights = checkpoints.rwkv7(layers=1, width=64, vocab=300, head=32)
    checkpoints.save(weights, tmp_path / "model.safetensors")
    template = {"user": "User:", "assistant": "Friend:", "separator": separator}
    (tmp_path / "config.json").write_text(json.dumps({"template": template}))
    convert(tmp_path, tmp_path / "m.gguf")
    metadata = read_metadata(tmp_path / "m.gguf")
    assert metadata["tokenizer.ggml.eot_token_id"] == end
    assert metadata["tokenizer.ggml.eos_token_id"] == 0


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        '{"template": 1}',
        '{"template": {"user": 1}}',
        '{"template": {"end_of_text": 999}}',
    ],
)
def test_a_config_that_makes_no_sense_is_named(config: str, tiny: Path) -> None:
    (tiny / "config.json").write_text(config)
    with pytest.raises(ModelCorrupt, match=r"config\.json"):
        convert(tiny, tiny / "m.gguf")
    assert not (tiny / "m.gguf").exists()


def test_without_a_config_the_file_names_the_model(tiny: Path) -> None:
    (tiny / "model.safetensors").rename(tiny / "mine.safetensors")
    convert(tiny, tiny / "m.gguf")
    metadata = read_metadata(tiny / "m.gguf")
    assert metadata["general.name"] == "mine"
    assert "tokenizer.chat_template" not in metadata
    convert(tiny, tiny / "m.gguf", name="yours")
    assert read_metadata(tiny / "m.gguf")["general.name"] == "yours"


def test_a_folder_without_one_checkpoint_gets_a_sentence(tiny: Path) -> None:
    (tiny / "model.safetensors").rename(tiny / "a.safetensors")
    (tiny / "b.safetensors").touch()
    with pytest.raises(ModelNotFound, match="several"):
        convert(tiny, tiny / "m.gguf")
    for name in "ab":
        (tiny / f"{name}.safetensors").unlink()
    with pytest.raises(ModelNotFound, match=r"\.safetensors or \.pth"):
        convert(tiny, tiny / "m.gguf")


@given(st.binary(max_size=20))
def test_token_bytes_survive_escaping(data: bytes) -> None:
    assert unescape(escape(data)) == data


def test_the_world_vocabulary_round_trips(tmp_path: Path) -> None:
    tokens = {i + 1: bytes([i]) for i in range(256)} | {257: b"'\"\\n", 258: "é\n".encode()}
    lines = [f"{i} {data!r} {len(data)}" for i, data in tokens.items()]
    lines[257] = f"258 {'é' + chr(10)!r} 3"  # text as well as bytes literals, as published
    (tmp_path / "rwkv_vocab_v20230424.txt").write_text("\n".join(lines) + "\n", "utf-8")
    source = checkpoints.save(
        checkpoints.rwkv7(layers=1, width=64, vocab=300, head=32), tmp_path / "model.safetensors"
    )
    convert(source, tmp_path / "m.gguf")
    metadata = read_metadata(tmp_path / "m.gguf")
    assert metadata["tokenizer.ggml.model"] == "rwkv"
    assert world_tokens(metadata) == tokens
    assert len(metadata["tokenizer.ggml.tokens"]) == 300  # type: ignore[arg-type]


# --- what cannot be converted -------------------------------------------------------------------


def test_unusable_checkpoints_get_a_sentence(tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    good = checkpoints.rwkv7(layers=2, width=64, vocab=300, head=32)
    checkpoints.save_tokenizer(tmp_path, 300)

    def attempt(weights: checkpoints.Weights, words: str) -> None:
        source = checkpoints.save(weights, tmp_path / "bad.safetensors")
        with pytest.raises(ModelCorrupt, match=words):
            convert(source, target)
        assert not target.exists()
        assert list(tmp_path.glob("*.part")) == []

    attempt({"a": np.zeros(3, np.float32)}, "not a complete RWKV model")
    attempt({k: v for k, v in good.items() if k != "blocks.1.att.w1"}, "no tensor blocks.1.att.w1")
    attempt(good | {"ln_out.weight": np.full(64, np.nan, np.float32)}, "output_norm.*not finite")
    attempt({k: v for k, v in good.items() if not k.endswith("r_k")}, "neither RWKV-4 nor RWKV-7")
    (tmp_path / "bad.pth").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(ModelCorrupt, match="cannot be read"):
        convert(tmp_path / "bad.pth", target)
    with pytest.raises(ModelNotFound):
        convert(tmp_path / "missing.pth", target)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelNotFound, match="tokenizer"):
        convert(checkpoints.save(good, tmp_path / "ok.safetensors"), target)
    checkpoints.save_tokenizer(tmp_path, 300)
    small = checkpoints.rwkv7(layers=1, width=64, vocab=200, head=32)
    with pytest.raises(ModelCorrupt, match="do not belong together"):
        convert(checkpoints.save(small, tmp_path / "small.safetensors"), target)


@pytest.mark.parametrize("cut", [0, 4, 8, 100, 5000, -1])
def test_truncated_safetensors_get_a_sentence(cut: int, tmp_path: Path) -> None:
    source = checkpoints.save(
        checkpoints.rwkv7(layers=1, width=64, vocab=300, head=32), tmp_path / "m.safetensors"
    )
    source.write_bytes(source.read_bytes()[:cut])
    with pytest.raises(ModelCorrupt):
        open_checkpoint(source)


# --- what cannot be loaded ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole file, small enough that most of its bytes are header."""
    folder = tmp_path_factory.mktemp("small")
    checkpoints.save_tokenizer(folder, 260)
    weights = checkpoints.rwkv7(layers=1, width=32, vocab=260, head=16, ffn=32, ranks=(32,) * 4)
    convert(checkpoints.save(weights, folder / "m.safetensors"), folder / "m.gguf")
    return folder / "m.gguf"


@pytest.fixture(scope="module")
def small(small_file: Path) -> bytes:
    return small_file.read_bytes()


def load(data: bytes, path: Path) -> tuple[str | None, str | None]:
    """The sentences with which the engine and the reader refuse a file."""
    path.write_bytes(data)
    sentences: list[str | None] = []
    for open_it in (_run, read_info):
        try:
            open_it(path)
            sentences.append(None)
        except ModelCorrupt as error:
            sentences.append(str(error))
    return sentences[0], sentences[1]


def _run(path: Path) -> None:
    engine = NativeEngine(path, threads=1)
    # A file that loads must also run, whatever numbers damage put into it.
    _, state = engine.forward([0, engine.vocab_size - 1], None)
    engine.forward([0] * 9, state)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"", "too short|empty"),
        (b"GGUF", "too short|ends in the middle"),
        (b"\0" * 100, "not a GGUF file"),
        (b"PK\x03\x04" + b"\0" * 100, "friend model convert"),
        (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "version"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "version"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 2**60, 0), "more than it can hold"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**63), "more than it can hold"),
    ],
)
def test_foreign_files_are_named(start: bytes, words: str, tmp_path: Path) -> None:
    import re

    for sentence in load(start, tmp_path / "m.gguf"):
        assert sentence is not None
        assert re.search(words, sentence)


def test_truncation_anywhere_gets_a_sentence(small: bytes, tmp_path: Path) -> None:
    for cut in [*range(1, 400, 7), *range(400, len(small) - 64, 997), len(small) - 32 * 260]:
        engine, reader = load(small[:cut], tmp_path / "m.gguf")
        assert engine is not None, cut
        assert reader is not None, cut


def _edit(data: bytes, pattern: bytes, offset: int, new: bytes) -> bytes:
    at = data.index(pattern) + len(pattern) + offset
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize(
    ("pattern", "offset", "new", "words"),
    [
        # After a tensor's name: dimensions (4), lengths (8 each), type (4), offset (8).
        (b"output.weight", 0, struct.pack("<I", 9), "dimensions"),
        (b"output.weight", 4, struct.pack("<Q", 2**62), "dimension|shape"),
        (b"output.weight", 12, struct.pack("<Q", 0), "dimension|shape"),
        (b"output.weight", 12, struct.pack("<Q", 2**39), "beyond the end"),
        (b"output.weight", 12, struct.pack("<Q", 7), "260 x 32|fits the rest"),
        (b"output.weight", 20, struct.pack("<I", 14), "type"),
        (b"output.weight", 24, struct.pack("<Q", 2**64 - 32), "beyond the end"),
        (b"output.weight", 24, struct.pack("<Q", 31), "not aligned"),
        # After a key: type (4), value.
        (b"rwkv7.block_count", 4, struct.pack("<I", 0), "block_count"),
        (b"rwkv7.block_count", 4, struct.pack("<I", 2), "no tensor blk.1"),
        (b"rwkv7.block_count", 4, struct.pack("<I", 2**31), "block_count"),
        (b"rwkv7.embedding_length", 4, struct.pack("<I", 64), "fits the rest"),
        (b"rwkv7.wkv.head_size", 4, struct.pack("<I", 5), "head size"),
        (b"rwkv7.block_count", 0, struct.pack("<I", 99), "unknown type"),
        (b"general.architecture", 12, b"llama", "architecture"),
        (b"tokenizer.ggml.tokens", 8, struct.pack("<Q", 2**61), "more than the file holds"),
        (b"tokenizer.ggml.tokens", 4, struct.pack("<I", 9), "holds arrays|unsupported type"),
    ],
)
def test_hostile_headers_get_a_sentence(
    pattern: bytes, offset: int, new: bytes, words: str, small: bytes, tmp_path: Path
) -> None:
    import re

    engine, _ = load(_edit(small, pattern, offset, new), tmp_path / "m.gguf")
    assert engine is not None
    assert re.search(words, engine)


_edits = st.lists(
    st.tuples(
        st.integers(0, 2**32),
        st.one_of(
            st.binary(min_size=1, max_size=8),
            st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\xff" * 4, struct.pack("<Q", 2**63)]),
        ),
    ),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=_edits, whole=st.booleans(), cut=st.integers(0, 200))
def test_damage_never_crashes(
    edits: list[tuple[int, bytes]], whole: bool, cut: int, small_file: Path, tmp_path: Path
) -> None:
    """Bytes overwritten anywhere: refused with a sentence, or loaded and run."""
    small = small_file.read_bytes()
    data = bytearray(small)
    reach = len(data) if whole else small.index(b"tokenizer.ggml.tokens")
    directory = small.index(b"token_embd.weight")
    for place, new in edits:
        at = place % reach
        if not whole and place % 2:
            at = directory + place % (len(small) // 3)
        data[at : at + len(new)] = new[: len(data) - at]
    load(bytes(data[: len(data) - cut]), tmp_path / "m.gguf")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        NativeEngine(tmp_path)
    with pytest.raises(ModelNotFound):
        read_info(tmp_path)


def test_info_counts_parameters(model_file: ModelFile) -> None:
    info = read_info(model_file("rwkv4"))
    assert info.architecture == "rwkv4"
    assert {tensor.type for tensor in info.tensors} == {"F32"}
    total = sum(v.size for v in checkpoints.rwkv4(layers=3, width=192, vocab=512).values())
    assert info.parameters == total
