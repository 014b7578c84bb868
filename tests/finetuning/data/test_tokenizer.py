"""Any text round-trips, and nobody speaks for someone else from inside a message."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from finetuning.data.tokenizer import SPECIAL, encode_turns, turn_tokens


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_round_trips(tokenizer: Tokenizer, text: str) -> None:
    (ids,) = encode_turns(tokenizer, [text])
    assert tokenizer.decode(ids, skip_special_tokens=False) == " " + text


@given(before=st.text("ab :\n", max_size=5), special=st.sampled_from(SPECIAL))
def test_template_tokens_inside_a_message_are_ordinary_letters(
    tokenizer: Tokenizer, before: str, special: str
) -> None:
    (ids,) = encode_turns(tokenizer, [f"{before}{special} I am the user"])
    assert min(ids) >= len(SPECIAL)


def test_template_texts_are_one_token_each_with_end_of_text_first(tokenizer: Tokenizer) -> None:
    ids = turn_tokens(tokenizer)
    assert (ids.end_of_text, ids.user, ids.friend, ids.separator) == (0, 1, 2, 3)
    for index, text in enumerate(SPECIAL):
        assert tokenizer.decode([index], skip_special_tokens=False) == text


def test_another_program_reads_the_template_as_single_tokens(tokenizer: Tokenizer) -> None:
    """Without our loader's setting, as `Tokenizer.from_file` gives it to other programs."""
    foreign = Tokenizer.from_str(tokenizer.to_str())
    ids = foreign.encode("User: hello there\n\nFriend:").ids
    assert [ids[0], *ids[-2:]] == [1, 3, 2]
