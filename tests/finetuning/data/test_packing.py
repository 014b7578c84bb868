"""Rows hold whole turns of whole conversations, with the labels in turn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.data.chat_text import ChatText, Marks, read_chat_text
from finetuning.data.corpus import Conversation
from finetuning.data.packing import (
    IGNORED,
    Packer,
    batches,
    cut_into_pieces,
    lay_into_rows,
    tokenize,
)
from lambda_inference.talk.prompt import Message, PromptBuilder

MARKS = Marks((1,), (2,), (3,), 0)
ROOM = 24

turns_of_tokens = st.lists(
    st.lists(st.integers(4, 90), min_size=1, max_size=ROOM - 2), min_size=1, max_size=12
)


@given(turns=turns_of_tokens)
def test_pieces_fit_and_lose_no_turn(turns: list[list[int]]) -> None:
    arrays = [np.array(turn, dtype=np.uint16) for turn in turns]
    pieces = [piece.tolist() for piece in cut_into_pieces(arrays, MARKS, ROOM)]

    assert all(0 < len(piece) <= ROOM for piece in pieces)
    joined = [token for piece in pieces for token in piece if token != 0]
    wanted = []
    for index, turn in enumerate(turns):
        wanted += [1 + index % 2, *turn, 3]
    assert joined == wanted
    for piece in pieces:
        assert piece[0] in (1, 2)
        assert 0 not in piece[:-1]
    for piece in pieces[:-1]:
        assert piece[-1] == 3


def test_a_turn_longer_than_a_row_is_cut_to_fit() -> None:
    (piece,) = cut_into_pieces([np.arange(4, 90, dtype=np.uint16)], MARKS, ROOM)
    assert len(piece) == ROOM
    assert piece[-1] == 3


@given(lengths=st.lists(st.integers(1, ROOM), max_size=60))
def test_rows_hold_every_piece_once_and_no_two_rows_could_be_one(lengths: list[int]) -> None:
    pieces = [np.full(length, index, dtype=np.uint16) for index, length in enumerate(lengths)]
    rows = lay_into_rows(pieces, ROOM)
    assert Counter(token for row in rows for token in row.tolist()) == Counter(
        dict(enumerate(lengths))
    )
    assert all(len(row) <= ROOM for row in rows)
    first, second = sorted([len(row) for row in rows] + [ROOM, ROOM])[:2]
    assert first + second > ROOM


def conversations(source: str, count: int) -> list[Conversation]:
    return [Conversation(source, (f"one {i}", f"two {i}", f"three {i}")) for i in range(count)]


def test_an_epoch_is_a_function_of_seed_and_number(text: ChatText) -> None:
    data = tokenize(conversations("test", 40), text)
    packer = Packer(data, text, 64, seed=3)
    again = Packer(data, text, 64, seed=3)
    assert np.array_equal(packer.epoch(1), again.epoch(1))
    assert not np.array_equal(packer.epoch(0), packer.epoch(1)[: len(packer.epoch(0))])


@pytest.mark.parametrize(("weight", "low", "high"), [(0.25, 60, 140), (1, 400, 400), (2, 800, 800)])
def test_sources_count_by_their_weight(text: ChatText, weight: float, low: int, high: int) -> None:
    data = tokenize(conversations("test", 400), text, {"test": weight})
    rows = Packer(data, text, 64, seed=0).epoch(0)
    assert low <= int((rows == 0).sum()) <= high


def test_the_first_turn_is_left_out_about_half_the_time(text: ChatText) -> None:
    data = tokenize(conversations("test", 400), text)
    rows = Packer(data, text, 64, seed=0).epoch(0)
    users, friends = (rows == 1).sum(), (rows == 2).sum()
    swapped = 2 * 400 - users  # a whole conversation has two turns of the user, a swapped one one
    assert friends == 400
    assert 150 < swapped < 250


def test_batches_predict_the_next_token_and_nothing_in_the_padding() -> None:
    rows = np.array([[5, 6, 7, IGNORED], [8, 9, 10, 11], [1, 2, 3, 4]], dtype=np.int32)
    (only,) = batches(rows, 2)
    assert only[0].tolist() == [[5, 6, 7], [8, 9, 10]]
    assert only[1].tolist() == [[6, 7, IGNORED], [9, 10, 11]]
    assert len(list(batches(rows, 2, start=2))) == 0


def test_of_replies_only_the_models_words_and_their_ends_are_learnt() -> None:
    turns = [np.array(turn, dtype=np.uint16) for turn in ([10, 11], [20, 21], [12])]
    (piece,) = cut_into_pieces(turns, MARKS, ROOM, learn="replies")
    (batch,) = batches(np.array([piece]), 1)
    read, wanted = (array[0].tolist() for array in batch)
    assert read == [1, 10, 11, 3, 2, 20, 21, 3, 1, 12, 3]
    assert [token for token in wanted if token >= 0] == [20, 21, 3]
    assert [read[at] for at, token in enumerate(wanted) if token >= 0] == [2, 20, 21]


def test_a_conversation_with_roles_keeps_them(text: ChatText) -> None:
    talk = [Conversation("chat", (f"one {i}", "two", "three"), roles=True) for i in range(100)]
    rows = Packer(tokenize(talk, text), text, 64, seed=0).epoch(0)
    assert int((rows == 1).sum()) == 200


def test_alone_each_piece_begins_as_the_server_begins(text: ChatText) -> None:
    talk = Conversation("chat", ("hello there", "hi! how are you?", "good"), roles=True)
    packer = Packer(tokenize([talk] * 3, text), text, 64, alone=True, learn="replies")
    rows = packer.epoch(0)
    assert len(rows) == 3
    (read, wanted), *_ = batches(rows, 1)
    builder = PromptBuilder(text.template, text.tokenizer)
    messages = [Message("user", "hello there"), Message("assistant", "hi! how are you?")]
    served = [token for turn in builder.build(messages).turns for token in turn]
    assert read[0, : len(served)].tolist() == served
    reply = text.encode(["hi! how are you?"])[0]
    assert wanted[0][wanted[0] >= 0].tolist() == [*reply, 3]


@pytest.mark.parametrize("name", ["bpe", "world"])
def test_the_text_is_that_of_the_server(name: str, text: ChatText, tmp_path: Path) -> None:
    if name == "world":
        tokens = [bytes([n]) for n in range(256)] + [b"User", b" hi", b"\n\n", b"Assistant"]
        path = tmp_path / "rwkv_vocab_test.txt"
        path.write_text("".join(f"{n} {t!r} {len(t)}\n" for n, t in enumerate(tokens, 1)))
        text = read_chat_text(path)
        assert text.template.assistant == "Assistant:"
        assert text.marks.separator == (259,)
        assert text.marks.end_of_text == 0
    turns = ("hi  there", "User: me?", "ok")
    encoded = [np.array(ids, dtype=np.uint16) for ids in text.encode(turns)]
    (piece,) = cut_into_pieces(encoded, text.marks, 200, opened=True)
    read = np.where(piece < 0, -2 - piece, piece).tolist()
    roles: tuple[Literal["user", "assistant"], ...] = ("user", "assistant", "user")
    messages = [Message(role, turn) for role, turn in zip(roles, turns, strict=True)]
    prompt = PromptBuilder(text.template, text.tokenizer).build(messages)
    assert read == [token for turn in prompt.turns for token in turn]


def test_turns_that_lose_their_ends_are_counted(text: ChatText) -> None:
    data = tokenize([Conversation("chat", ("hi", "never better. " * 40))], text)
    assert Packer(data, text, 32).too_long() == 1
    assert Packer(data, text, 1024).too_long() == 0
