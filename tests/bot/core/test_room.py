"""A model that reads so many tokens and no more is found out, and not tried again and again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.conversation import ConversationKey, Role, Turn
from bot.core.room import Room
from bot.core.window import fit, size
from inference_client import ChatMessage

HERE, THERE = (ConversationKey("discord", "space", channel) for channel in ("here", "there"))


class _Model:
    """It counts a quarter of a token for a latin letter, three for a Chinese character."""

    def __init__(self, context: int, *, says_tokens: bool = True) -> None:
        self.context = context
        self.says_tokens = says_tokens
        self.refusals = 0

    def tokens(self, messages: list[ChatMessage]) -> int:
        costs = {"a": 0.25, "好": 3.0, "🫨": 4.0}
        return 6 * len(messages) + round(sum(costs.get(c, 1) for m in messages for c in m.content))

    def answers(self, room: Room, where: ConversationKey, turns: list[Turn]) -> list[Turn]:
        """The turns still in the window after a reply; asked again while it refuses."""
        limits = {"persona": "", "window_characters": 6000, "message_characters": 2000}
        first, messages = fit(turns, **limits, most=room.characters(where))
        while (tokens := self.tokens(messages)) > self.context:
            self.refusals += 1
            room.refused(where, size(messages))
            first, shorter = fit(turns, **limits, most=size(messages) - 1)
            assert size(shorter) < size(messages), "no way on"
            messages = shorter
        room.accepted(where, size(messages), tokens if self.says_tokens else 0)
        return turns[first:]


def _talk(model: _Model, room: Room, where: ConversationKey, lines: list[str]) -> list[int]:
    """Refusals up to each line."""
    turns: list[Turn] = []
    refusals = []
    for number, line in enumerate(lines):
        turns = model.answers(room, where, [*turns, Turn(2 * number, Role.USER, line, "m")])
        turns.append(Turn(2 * number + 1, Role.FRIEND, line[:50], "f"))
        refusals.append(model.refusals)
    return refusals


_LINES = st.lists(
    st.builds(lambda char, length: char * length, st.sampled_from("a好🫨"), st.integers(1, 400)),
    min_size=1,
    max_size=80,
)


@settings(deadline=None)
@given(_LINES, st.integers(200, 9000), st.booleans())
def test_any_talk_goes_on_whatever_the_model_reads(
    lines: list[str], context: int, says_tokens: bool
) -> None:
    _talk(_Model(context, says_tokens=says_tokens), Room(), HERE, lines)


@given(st.sampled_from("a好🫨"), st.integers(20, 400), st.integers(500, 9000), st.booleans())
@settings(deadline=None, max_examples=50)
def test_a_talk_in_one_script_is_refused_a_few_times_and_never_again(
    char: str, length: int, context: int, says_tokens: bool
) -> None:
    model = _Model(context, says_tokens=says_tokens)
    refusals = _talk(model, Room(), HERE, [char * length] * 300)
    assert refusals[-1] <= 8
    assert refusals[-1] == refusals[150]


def test_what_was_learnt_in_one_conversation_holds_in_another() -> None:
    model, room = _Model(2000), Room()
    _talk(model, room, HERE, ["好" * 100] * 40)
    refused = model.refusals
    assert refused > 0
    _talk(model, room, THERE, ["好" * 100] * 40)
    assert model.refusals == refused


def test_a_cheaper_script_gets_its_room_back() -> None:
    model, room = _Model(2000), Room()
    _talk(model, room, HERE, ["好" * 100] * 40)
    _talk(model, room, HERE, ["a" * 100] * 40)
    most = room.characters(HERE)
    assert most is not None
    assert most > 3000


def test_nothing_is_held_against_a_model_that_refuses_nothing() -> None:
    room = Room()
    room.accepted(HERE, 4000, 12_000)
    assert room.characters(HERE) is None
