"""Both vocabularies give any text back, and reserved tokens stay out of what people write."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_inference.errors import ModelCorrupt
from lambda_inference.talk.tokenizer import BpeTokenizer, Utf8Stream, WorldTokenizer, decode

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
WORDS = [" the", " them", "the", "\n\n", "é", "日本", "日", "👋🏽", " hello", "hello there", "::"]
RESERVED = {"User:", "Friend:", "\n\n", "<|endoftext|>"}


@pytest.fixture(scope="module")
def bpe(folder: Path) -> BpeTokenizer:
    return BpeTokenizer((folder / "tokenizer.json").read_text(), reserved=RESERVED)


def _world_lines() -> list[str]:
    lines = [f"{byte + 1} {bytes([byte])!r} 1" for byte in range(256)]
    lines[65] = "66 'A' 1"  # the published file writes ASCII as text and the rest as bytes
    return lines + [f"{300 + n} {word!r} {len(word.encode())}" for n, word in enumerate(WORDS)]


@pytest.fixture(scope="module")
def world() -> WorldTokenizer:
    return WorldTokenizer.from_vocabulary("\n".join(_world_lines()) + "\n")


@given(text=TEXT)
def test_bpe_gives_any_text_back(bpe: BpeTokenizer, text: str) -> None:
    assert decode(bpe, bpe.encode(text)) == text


@given(data=st.binary())
def test_bpe_gives_any_bytes_back(bpe: BpeTokenizer, data: bytes) -> None:
    assert b"".join(map(bpe.token_bytes, bpe.encode_bytes(data))) == data


@given(parts=st.lists(st.one_of(TEXT, st.sampled_from(sorted(RESERVED))), min_size=1, max_size=6))
def test_reserved_tokens_in_a_message_are_only_words(bpe: BpeTokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    tokens = bpe.encode(text)
    assert not {bpe.reserved(one) for one in RESERVED} & set(tokens)
    assert decode(bpe, tokens) == text


def test_reserved_tokens_are_found_by_name(bpe: BpeTokenizer) -> None:
    numbers = [bpe.reserved(text) for text in ("<|endoftext|>", "User:", "Friend:", "\n\n")]
    assert numbers == [0, 1, 2, 3]
    assert bpe.token_bytes(1) == b"User:"
    assert bpe.reserved("never one token, surely") is None


def test_reserved_tokens_that_are_not_marked_special_are_kept_out_too(folder: Path) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    for entry in document["added_tokens"]:
        entry["special"] = False
    tokenizer = BpeTokenizer(json.dumps(document), reserved=RESERVED)
    assert tokenizer.reserved("User:") == 1
    assert 1 not in tokenizer.encode("User: hi User:")
    assert tokenizer.token_bytes(1) == b"User:"
    assert tokenizer.vocab_size == len(document["model"]["vocab"])


def test_lone_surrogates_do_not_stop_a_conversation(
    bpe: BpeTokenizer, world: WorldTokenizer
) -> None:
    for tokenizer in (bpe, world):
        assert decode(tokenizer, tokenizer.encode("a\ud800b")) == "a?b"


def test_unknown_ids_stand_for_nothing(bpe: BpeTokenizer, world: WorldTokenizer) -> None:
    assert bpe.token_bytes(10**6) == b""
    assert bpe.token_bytes(-1) == b""
    assert world.token_bytes(10**6) == b""


@pytest.mark.parametrize("source", ["", "{}", "null", '{"version": "1.0"}'])
def test_a_broken_tokenizer_says_so(source: str) -> None:
    with pytest.raises(ModelCorrupt):
        BpeTokenizer(source)


def test_a_tokenizer_of_another_kind_says_so() -> None:
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"hello": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(ModelCorrupt, match="byte-level"):
        BpeTokenizer(words.to_str())


@given(data=st.binary())
def test_world_gives_any_bytes_back(world: WorldTokenizer, data: bytes) -> None:
    assert b"".join(map(world.token_bytes, world.encode_bytes(data))) == data


@given(text=st.lists(st.one_of(TEXT, st.sampled_from(WORDS))).map("".join))
def test_world_takes_the_longest_token_at_each_place(world: WorldTokenizer, text: str) -> None:
    known = [*(bytes([byte]) for byte in range(256)), *(word.encode() for word in WORDS)]
    rest, expected = text.encode(), []
    while rest:
        expected.append(max((one for one in known if rest.startswith(one)), key=len))
        rest = rest[len(expected[-1]) :]
    assert [world.token_bytes(token) for token in world.encode(text)] == expected


def test_world_ends_a_document_with_0(world: WorldTokenizer) -> None:
    assert world.reserved("<|endoftext|>") == 0
    assert world.token_bytes(0) == b""
    assert world.reserved("\n\n") == 303


@pytest.mark.parametrize(
    "line",
    [
        "1 'a' 2",
        "x 'a' 1",
        "1 'a'",
        "1 a 1",
        "1 __import__('os').getpid() 1",
        "1 'a', 'b' 1",
        "1 3 1",
        "-1 'a' 1",
        "1 '",
    ],
)
def test_a_bad_line_in_the_vocabulary_says_so(line: str) -> None:
    with pytest.raises(ModelCorrupt):
        WorldTokenizer.from_vocabulary("\n".join([*_world_lines(), line]))


def test_a_vocabulary_that_cannot_write_every_byte_says_so() -> None:
    with pytest.raises(ModelCorrupt, match="0x41"):
        WorldTokenizer({byte + 1: bytes([byte]) for byte in range(256) if byte != 0x41})


@pytest.mark.reference
@pytest.mark.slow
def test_world_agrees_with_the_published_tokenizer() -> None:
    rwkv = pytest.importorskip("rwkv.rwkv_tokenizer")
    vocabulary = Path(rwkv.__file__).with_name("rwkv_vocab_v20230424.txt")
    ours = WorldTokenizer.from_vocabulary(vocabulary.read_text(encoding="utf-8"))
    assert ours.vocab_size == 65530
    theirs = rwkv.TRIE_TOKENIZER(str(vocabulary))
    text = "User: héllo there!\n\nAssistant: 日本語 👋🏽 العربية  x  = {1: 'two'}\r\n\t" * 20
    assert ours.encode(text) == theirs.encode(text)


@given(text=TEXT, cuts=st.lists(st.integers(0, 200), max_size=12))
def test_half_characters_wait_for_their_other_half(text: str, cuts: list[int]) -> None:
    data, stream, out = text.encode(), Utf8Stream(), []
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    for start, end in pairwise(places):
        part = stream.feed(data[start:end])
        assert "\ufffd" not in part or "\ufffd" in text
        out.append(part)
    assert "".join(out) == text


def test_bytes_that_can_never_be_text_do_not_block_what_follows() -> None:
    stream = Utf8Stream()
    assert stream.feed(b"\xe2\x82") == ""
    assert stream.feed(b"ok") == "\ufffdok"
