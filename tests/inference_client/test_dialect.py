"""What refusals teach: the same words in the form that a server takes."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_client import ChatMessage, Refused, SamplingOptions
from inference_client.dialect import PLAIN, Dialect, learn
from tests.fakes.strict import alternating_roles, known_fields, no_system, plain_names

if TYPE_CHECKING:
    from inference_client import InferenceClient
    from tests.fakes.model import FakeModel
    from tests.inference_client.conftest import ClientFor

ADA, BOB = "Ada Lovelace", "Bob"
TALK = [
    ChatMessage("system", "Be kind."),
    ChatMessage("user", "hello", ADA),
    ChatMessage("user", "are you there?", BOB),
    ChatMessage("assistant", "yes"),
    ChatMessage("user", "good", ADA),
    ChatMessage("user", "really", ADA),
]


async def _ask(client: InferenceClient, messages: list[ChatMessage] = TALK) -> str:
    async with client.stream(messages, SamplingOptions(seed=1)) as reply:
        async for _ in reply:
            pass
    return reply.final.text


def _sent(model: FakeModel) -> list[tuple[str, str, str | None]]:
    turns = model.requests[-1]["messages"]
    return [(turn["role"], turn["content"], turn.get("name")) for turn in turns]


async def test_roles_that_must_alternate_are_merged_and_names_kept(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.rules.append(alternating_roles)
    client = client_for(model.url, attempts=1)
    assert await _ask(client) == "I heard: good\nreally"
    assert len(model.requests) == 2
    assert _sent(model) == [
        ("system", "Be kind.", None),
        ("user", f"{ADA}: hello\n{BOB}: are you there?", None),
        ("assistant", "yes", None),
        ("user", "good\nreally", ADA),
    ]
    await _ask(client)
    assert len(model.requests) == 3, "learnt once"


async def test_a_refused_name_is_left_out_and_who_spoke_is_still_seen(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.rules.append(plain_names)
    client = client_for(model.url, attempts=1)
    await _ask(client, TALK[1:2])
    assert _sent(model) == [("user", "hello", None)]
    await _ask(client, TALK[1:4])
    assert _sent(model)[:2] == [
        ("user", f"{ADA}: hello", None),
        ("user", f"{BOB}: are you there?", None),
    ]
    assert len(model.requests) == 3


async def test_a_refused_system_message_is_said_before_the_first_words(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.rules.append(no_system)
    await _ask(client_for(model.url, attempts=1), TALK[:2])
    assert _sent(model) == [("user", "Be kind.\n\nhello", ADA)]


async def test_refused_fields_are_left_out(model: FakeModel, client_for: ClientFor) -> None:
    model.rules.append(known_fields("model", "messages", "stream", "max_completion_tokens"))
    options = SamplingOptions(max_tokens=7, temperature=0.5, top_p=0.9, seed=3)
    client = client_for(model.url, attempts=1)
    assert (await client.chat(TALK[1:2], options)).text == "I heard: hello"
    async with client.stream(TALK[1:2], options):
        pass
    assert model.requests[-1].keys() == {"model", "messages", "stream", "max_completion_tokens"}
    assert model.requests[-1]["max_completion_tokens"] == 7


async def test_everything_refused_at_once_is_learnt_in_one_call(
    model: FakeModel, client_for: ClientFor
) -> None:
    fields = ("model", "messages", "stream")
    model.rules += [known_fields(*fields), plain_names, no_system, alternating_roles]
    assert await _ask(client_for(model.url, attempts=1)) == f"I heard: {ADA}: good\n{ADA}: really"
    assert _sent(model) == [
        ("user", f"Be kind.\n\n{ADA}: hello\n{BOB}: are you there?", None),
        ("assistant", "yes", None),
        ("user", f"{ADA}: good\n{ADA}: really", None),
    ]


async def test_what_cannot_be_mended_is_told_after_one_request(
    model: FakeModel, client_for: ClientFor
) -> None:
    model.faults.status(400, body='{"error":{"message":"temperature must be below 2"}}')
    with pytest.raises(Refused, match="below 2"):
        await client_for(model.url).chat(TALK[1:2], SamplingOptions(temperature=3))
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("status", "words", "field", "expected"),
    [
        (500, "Conversation roles must alternate user/assistant/user/assistant/...", None, "order"),
        (400, "roles must alternate between user and assistant, but found", None, "order"),
        (400, "After the system message(s), user and assistant should alternate", None, "order"),
        (400, "Multiple consecutive user messages are not supported", None, "order"),
        (400, "System role not supported", None, "system"),
        (500, "Only user and assistant roles are supported!", None, "system"),
        (400, "Invalid 'messages[0].name': it does not match pattern.", None, "name"),
        (400, "'messages.0' : property 'name' is unsupported", None, "name"),
        (422, "Extra inputs are not permitted", "messages.0.user.name", "name"),
        (400, "Unsupported parameter: 'seed'", "seed", "seed"),
        (400, "Unrecognized request argument supplied: seed", None, "seed"),
        (401, "roles must alternate", None, None),
        (413, "seed unsupported", "seed", None),
        (400, "seed must be positive", "seed", None),
        (400, "no", None, None),
    ],
)  # fmt: skip
def test_words_of_many_servers(
    status: int, words: str, field: str | None, expected: str | None
) -> None:
    refusal = Refused(words, status=status, field=field)
    learnt = {
        "order": Dialect(alternating=True),
        "system": Dialect(no_system=True),
        "name": Dialect(frozenset({"name"})),
        "seed": Dialect(frozenset({"seed"})),
        None: None,
    }
    assert learn(refusal, PLAIN, TALK, {"seed": 1}) == learnt[expected]


def test_fastapi_names_the_field_in_a_list() -> None:
    from inference_client.wire import read_error

    detail = [{"loc": ["body", "messages", 0, "name"], "msg": "extra fields not permitted"}]
    said = read_error(json.dumps({"detail": detail}).encode())
    assert (said.field, said.message) == ("messages.0.name", "extra fields not permitted")


_TURNS = st.lists(
    st.builds(
        ChatMessage,
        st.sampled_from(["user", "assistant"]),
        st.text("abc", min_size=1, max_size=5),
        st.sampled_from([None, ADA, BOB]),
    ),
    min_size=1,
    max_size=12,
)
_DIALECTS = st.builds(
    Dialect,
    st.frozensets(st.sampled_from(["name", "seed"])),
    st.booleans(),
    st.booleans(),
)


@given(_TURNS, st.booleans(), _DIALECTS)
def test_any_talk_keeps_its_words_in_any_dialect(
    turns: list[ChatMessage], persona: bool, dialect: Dialect
) -> None:
    turns = [ChatMessage("system", "SYS"), *turns] if persona else turns
    spoken = dialect.spoken(turns)
    roles = [turn.role for turn in spoken if turn.role != "system"]
    if dialect.alternating:
        assert all(one != other for one, other in itertools.pairwise(roles))
        assert "user" not in roles or roles[0] == "user"
    if dialect.no_system:
        assert "system" not in [turn.role for turn in spoken]
        assert not persona or any("SYS" in turn.content for turn in spoken)
    if "name" in dialect.without:
        assert not any(turn.name for turn in spoken)
    said = "\n".join(turn.content for turn in spoken)
    assert all(turn.content in said for turn in turns if turn.role == "user")
    assert dialect.spoken(turns) == spoken
