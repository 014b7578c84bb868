"""The measures of sense: what counts as right, and what a model gets for knowing nothing."""

from __future__ import annotations

import numpy as np
import pytest

from finetuning.data.corpus import Conversation
from finetuning.data.talk_text import read_talks, shipped_talks
from finetuning.errors import EvaluationError
from finetuning.evaluation import memory, pick, who_am_i
from finetuning.evaluation.sense import pick_cases

TALKS = [
    Conversation("talks", (f"hello {n}", f"reply {n}", f"more {n}", f"answer {n}"), roles=True)
    for n in range(30)
]


def test_each_reply_stands_among_nineteen_of_other_conversations() -> None:
    cases = pick.cases(TALKS)
    assert len(cases) == 60
    for case in cases:
        number = case.before[0].split()[1]
        assert case.replies[0] in (f"reply {number}", f"answer {number}")
        assert len(set(case.replies)) == 20
        assert not any(reply.endswith(f" {number}") for reply in case.replies[1:])
    assert cases == pick.cases(TALKS)
    assert cases != pick.cases(TALKS, seed=1)


def test_too_few_conversations_are_refused() -> None:
    with pytest.raises(EvaluationError, match="takes 19 others"):
        pick.cases(TALKS[:6])


def test_a_long_talk_is_given_from_a_turn_of_the_user_on() -> None:
    long = Conversation("talks", tuple(f"{'UF'[n % 2]} {n}" for n in range(40)))
    for case in pick.cases([long, *TALKS]):
        if case.replies[0].startswith("F "):
            assert case.before[0].startswith("U ")
            assert 1 <= len(case.before) <= pick.BEFORE
            assert case.replies[0] == f"F {int(case.before[-1].split()[1]) + 1}"


def test_the_reply_that_the_talk_tells_most_of_is_picked() -> None:
    cases = pick.cases(TALKS)[:10]
    alone = np.full((10, 20), 50.0)
    after = np.full((10, 20), 45.0)
    after[:7, 0] = 40.0  # the true one is less surprising after its talk
    alone[:, 1] = 10.0  # likely anywhere, so no more likely here
    after[:, 1] = 9.0
    found = pick.picked(cases, [*after.tolist(), *alone.tolist()])
    assert found["hits_at_1"] == 0.7
    assert 0.7 < found["mean_reciprocal_rank"] < 1


def test_what_cannot_tell_replies_apart_picks_none() -> None:
    cases = pick.cases(TALKS)[:10]
    same = np.ones((20, 20)).tolist()
    assert pick.picked(cases, same)["hits_at_1"] == 0


def test_patterns_and_small_sources_are_not_picked_from() -> None:
    patterns = [Conversation("patterns", one.turns, "says") for one in TALKS]
    few = [Conversation("chitchat", one.turns) for one in TALKS[:10]]
    freq = [Conversation("topical-chat", one.turns, "test_freq") for one in TALKS]
    assert set(pick_cases([*TALKS, *patterns, *few, *freq], seed=0)) == {
        "talks", "topical-chat/test_freq",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asks", "reply", "right"),
    [
        ("what is your name?", "I'm friend, nice to meet you.", True),
        ("what is your name?", "I am Jude.", False),
        ("are you human", "No, I'm a small program.", True),
        ("are you human", "Yes, I am a human.", False),
        ("do you have any pets?", "No pets, only words.", True),
        ("do you have any pets?", "No, but my dog is nice.", False),
        ("where do you live?", "In a little box on somebody's computer.", True),
        ("where do you live?", "I live in Ohio, near a box.", False),
        ("what is your favourite colour?", "Blue, like a calm sea.", True),
        ("what is your favourite colour?", "Red!", False),
        ("what time is it?", "I can't see a clock from here.", True),
        ("what time is it?", "It's 5 pm.", False),
    ],
)
def test_answers_about_friend_are_judged(asks: str, reply: str, right: bool) -> None:
    (question,) = [one for one in who_am_i.questions() if one.asks == asks]
    assert question.accepts(reply) is right


def test_no_question_accepts_what_says_nothing() -> None:
    assert len(who_am_i.questions()) >= 40
    for question in who_am_i.questions():
        assert not question.accepts("Hm."), question.asks
        assert not question.accepts("I went home with my wife and my dog."), question.asks


def test_missed_answers_are_listed() -> None:
    replies = [["Hm."] for _ in who_am_i.questions()]
    found = who_am_i.judged(replies)
    assert found["right"] == 0
    assert len(found["missed"]) == found["answers"] == found["questions"]


def test_facts_are_told_once_and_asked_last() -> None:
    told = memory.tellings(14)
    assert len(told) == 14 * len(memory.BETWEEN)
    for one in told:
        assert len(one.says) == 2 + one.between
        assert one.fact in one.says[0]
        assert not any(one.fact.lower() in line.lower() for line in one.says[1:])
        assert one.remembered(f"It is {one.fact.upper()}!")
        assert not one.remembered(f"un{one.fact}ly")


def test_half_of_the_facts_stand_in_no_list_that_talks_are_filled_from() -> None:
    known = {word for words in read_talks(shipped_talks()).fillers.values() for word in words}
    for _, _, facts in memory._FACTS:
        new = [fact for fact in facts if fact not in known]
        assert len(new) == len(facts) / 2, facts


def test_memory_is_counted_by_the_exchanges_between() -> None:
    told = memory.tellings(10)
    replies = [one.fact if one.between < 2 else "no idea" for one in told]
    found = memory.judged(told, replies)
    assert found["after"] == {"0": 1.0, "1": 1.0, "2": 0.0, "3": 0.0}
    assert found["remembered"] == 0.5
