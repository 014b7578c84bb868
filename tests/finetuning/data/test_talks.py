"""Talks: the text form, what is drawn from it, and which of it nobody learns from."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.data.roughen import roughened
from finetuning.data.sources import read_source
from finetuning.data.talk_checks import faults
from finetuning.data.talk_draws import TalkDraws, fill, plain
from finetuning.data.talk_text import (
    BadTalk,
    Talks,
    is_talks,
    parse_talks,
    read_talks,
    shipped_talks,
)
from finetuning.errors import CorpusError

SLOTS = "animal: otter, cat, bear\nname: Ann, Ben, Zoe\nage: 8, 20\n"


def folder_with(path: Path, text: str, *, slots: str = SLOTS, kind: str = "openers") -> Path:
    (path / kind).mkdir(parents=True)
    (path / "slots.txt").write_text(slots)
    (path / kind / "some.txt").write_text(text)
    return path


@pytest.fixture(scope="module")
def shipped() -> Talks:
    return read_talks(shipped_talks())


def test_a_file_is_talks_of_alternatives() -> None:
    first, second = parse_talks(
        "U: hi | hello\nF: Hi!\n\n\nU: bye\nF: Bye. | See you.\nU: x\nF: y\n", "openers"
    )
    assert first.lines == (("hi", "hello"), ("Hi!",))
    assert second.lines == (("bye",), ("Bye.", "See you."), ("x",), ("y",))
    assert (first.line, second.line) == (1, 5)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("F: hi\nU: ho\n", 1, "'U:' was to come"),
        ("U: hi\nU: ho\n", 2, "'F:' was to come"),
        ("U: hi\n\nU: ho\nF: hm\n", 1, "friend has no answer"),
        ("U: hi |  | ho\nF: hm\n", 1, "nothing is said"),
        ("U: hi {Name}\nF: hm\n", 1, "a brace"),
        ("U: hi\nfriend: hm\n", 2, "'F:' was to come"),
    ],
)
def test_what_breaks_the_form_is_named_with_its_line(text: str, line: int, why: str) -> None:
    with pytest.raises(BadTalk) as caught:
        list(parse_talks(text, "openers"))
    assert caught.value.line == line
    assert why in caught.value.why


def test_a_broken_folder_is_a_sentence_with_file_and_line(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "U: hi\nF: ho\n\nU: a {fish}\nF: b\n")
    with pytest.raises(CorpusError, match=r"some\.txt, line 4: \{fish\} has no fillers"):
        read_talks(folder)


def test_a_slot_is_the_same_in_all_of_a_conversation_and_its_second_another(
    tmp_path: Path,
) -> None:
    text = "U: {name} and {name2} have a {animal}\nF: {name} or {name2}? A {animal} at 8.\n"
    talks = read_talks(folder_with(tmp_path, text))
    random = np.random.default_rng(0)
    for _ in range(50):
        user, friend = plain(talks.talks[0], talks, random).turns
        found = re.fullmatch(r"(\w+) and (\w+) have (an? \w+)", user)
        assert found
        assert found[1] != found[2]
        assert friend == f"{found[1]} or {found[2]}? {found[3].capitalize()} at 8."


@pytest.mark.parametrize(
    ("text", "value", "filled"),
    [
        ("A {x} is here.", "otter", "An otter is here."),
        ("i saw a {x}", "uniform", "i saw a uniform"),
        ("a {x}", "umbrella", "an umbrella"),
        ("{x} are fun. {x}!", "cats", "Cats are fun. Cats!"),
        ("I like {x}", "tea", "I like tea"),
    ],
)
def test_fillers_get_their_article_and_their_capital(text: str, value: str, filled: str) -> None:
    assert fill(text, {"x": value}) == filled


def test_an_epoch_follows_from_the_generator_and_is_another_each_time(shipped: Talks) -> None:
    few = Talks(shipped.talks[::40], shipped.fillers)
    draws = TalkDraws(few)
    first = [one.turns for one in draws.epoch(np.random.default_rng([0, 1]))]
    again = [one.turns for one in draws.epoch(np.random.default_rng([0, 1]))]
    other = [one.turns for one in draws.epoch(np.random.default_rng([0, 2]))]
    assert first == again
    assert first != other
    assert all(len(turns) % 2 == 0 for turns in first)


def test_weights_say_how_often_a_kind_is_drawn(tmp_path: Path) -> None:
    talks = read_talks(folder_with(tmp_path, "U: a\nF: b\n", kind="fun"))
    draws = TalkDraws(talks, {"talks/fun": 2.5, "talks": 2.0})
    counts = {len(list(draws.epoch(np.random.default_rng(seed)))) for seed in range(20)}
    assert counts == {5}
    assert list(TalkDraws(talks, {"talks": 0}).epoch(np.random.default_rng(0))) == []


def test_what_is_asked_back_may_come_later_and_is_still_answered(shipped: Talks) -> None:
    text = "U: my name is {name}\nF: Hi {name}.\nU: what's my name?\nF: It's {name}.\n"
    (talk,) = parse_talks(text, "memory")
    draws = TalkDraws(shipped)
    random = np.random.default_rng(4)
    between: Counter[int] = Counter()
    for _ in range(200):
        turns = draws.draw(talk, random).turns
        name = turns[1].removeprefix("Hi ").removesuffix(".")
        asked_back = turns.index(f"It's {name}.")
        between[(asked_back - 3) // 2] += 1
    assert set(between) == {0, 1, 2, 3}
    assert between[0] > 80


def test_each_talk_is_for_one_purpose_that_others_do_not_change(shipped: Talks) -> None:
    parts = [set(shipped.of(split).talks) for split in ("train", "valid", "test")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(set(shipped.talks))
    assert all(0.03 < len(part) / len(shipped.talks) < 0.05 for part in parts[1:])
    again = [one for one in shipped.talks[:300] if one.split == "test"]
    assert set(again) <= parts[2]


@given(
    line=st.text("abcdefgh ijklmnop'?!.,Iyou", min_size=1, max_size=60).map(str.strip),
    seed=st.integers(0, 1000),
)
def test_rough_lines_say_something_and_keep_what_is_to_be_kept(line: str, seed: int) -> None:
    rough = roughened(f"{line} Bartholomew", np.random.default_rng(seed), ("Bartholomew",))
    assert "bartholomew" in rough.lower()
    assert "\n" not in rough


def test_most_lines_stay_near_what_was_written() -> None:
    random = np.random.default_rng(0)
    line = "do you know what i'm going to cook tomorrow?"
    drawn = [roughened(line, random) for _ in range(300)]
    assert len(set(drawn)) > 50
    assert sum(len(one) < len(line) * 0.8 for one in drawn) < 15


def test_talks_are_read_by_name_and_held_out_by_themselves(tmp_path: Path) -> None:
    said: list[str] = []
    source = read_source([Path("talks")], said.append)
    assert source.talks is not None
    assert "9,673 talks, 906 patterns" in said[0]
    assert {one.source for one in source.plain("valid")} == {"talks", "patterns"}
    assert is_talks(shipped_talks())
    assert not is_talks(tmp_path)


def test_the_shipped_talks_keep_the_rules(shipped: Talks) -> None:
    assert list(faults(shipped)) == []


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("My dog likes that too.", "claims"),
        ("I live in Berlin.", "claims"),
        ("I'm a human, of course.", "claims"),
        ("I am 25 and happy.", "claims"),
        ("Great! So great!", "exclamation"),
        ("Caf\u00e9 it is.", "ASCII"),
        ("- tea and cake.", "list"),
        ("Use **both** hands.", "markdown"),
        ("So you have a", "end is missing"),
        ("word " * 31 + ".", "more than 30"),
    ],
)
def test_a_reply_out_of_character_is_found(tmp_path: Path, reply: str, why: str) -> None:
    talks = read_talks(folder_with(tmp_path, f"U: hi\nF: {reply}\n"))
    (fault,) = faults(talks)
    assert why in fault.why


def test_a_quoted_claim_and_a_box_are_in_character(tmp_path: Path) -> None:
    text = 'U: hi\nF: Say "I\'m a doctor" slowly.\n\nU: home?\nF: I live in a little box.\n'
    assert list(faults(read_talks(folder_with(tmp_path, text)))) == []


def test_a_talk_that_is_there_twice_is_found(tmp_path: Path) -> None:
    (fault,) = faults(read_talks(folder_with(tmp_path, "U: hi\nF: ho.\n\nU: hi\nF: ho.\n")))
    assert "twice" in fault.why
