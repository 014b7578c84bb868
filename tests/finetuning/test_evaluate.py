"""Bits per byte equal those counted by hand, token by token; replies stay in their turn."""

from __future__ import annotations

import math

import pytest
import torch
from tokenizers import Tokenizer

from finetuning.data.corpus import Conversation
from finetuning.data.tokenizer import encode_turns
from finetuning.evaluate import evaluate
from finetuning.generate import Sampling, converse
from finetuning.rwkv7 import RWKV7

TALK = Conversation("topical-chat", ("hello there", "hi! how are you?", "caf\u00e9"), "test_freq")
CHAT = Conversation("chitchat", ("do you like music?", "yes"))


def bits_by_hand(model: RWKV7, tokenizer: Tokenizer, conversation: Conversation) -> float:
    state, bits = None, 0.0
    with torch.no_grad():
        for index, turn in enumerate(encode_turns(tokenizer, conversation.turns)):
            logits, state = model(torch.tensor([[1 + index % 2]]), state)
            for token in [*turn, 3]:
                bits -= float(logits[0, -1].log_softmax(-1)[token]) / math.log(2)
                logits, state = model(torch.tensor([[token]]), state)
    return bits


def test_bits_equal_those_counted_token_by_token(model: RWKV7, tokenizer: Tokenizer) -> None:
    scores = evaluate(model, tokenizer, [TALK, CHAT])

    talk, chat = scores["topical-chat/test_freq"], scores["chitchat"]
    assert talk.bits == pytest.approx(bits_by_hand(model, tokenizer, TALK), rel=1e-4)
    assert chat.bits == pytest.approx(bits_by_hand(model, tokenizer, CHAT), rel=1e-4)
    assert (talk.bytes, talk.turns, talk.words) == (11 + 16 + 5, 3, 2 + 4 + 1)
    assert talk.bits_per_byte == pytest.approx(talk.bits / 35)
    assert talk.word_perplexity == pytest.approx(2 ** (talk.bits / 10))
    assert scores["all"].bits == pytest.approx(talk.bits + chat.bits)


def test_replies_are_reproducible_and_stay_in_their_turn(
    model: RWKV7, tokenizer: Tokenizer
) -> None:
    lines = ["hello there", "User: do you like music?"]
    first = converse(model, tokenizer, lines, Sampling(seed=4, longest_reply=12))
    again = converse(model, tokenizer, lines, Sampling(seed=4, longest_reply=12))
    other = converse(model, tokenizer, lines, Sampling(seed=5, longest_reply=12))
    assert first == again
    assert first != other
    assert [line for line, _ in first] == lines
    assert all("\n\n" not in reply and "User:" not in reply for _, reply in first)
