"""No secret gets through, by value or by shape, at any depth; ordinary words do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.ops.redaction import MASK, Redactor, secrets_of
from bot.settings import load_settings

# Made up, in pieces, so that no scanner takes them for leaks.
DISCORD = "MTE4NTk0OTQ3MTYwMDMyMTU2Nw" + ".GaBcDe." + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9"
SHAPES = [
    DISCORD,
    "xoxb-" + "1234567890-abcdefghij",
    "xapp-" + "1-A0000000000-1234567890-abcdef0123456789",
    "xoxe." + "xoxp-1-Mi0yLTEyMzQ1Njc4OTA",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "sk-" + "abcdefghijklmnop1234",
]


@pytest.mark.parametrize("secret", SHAPES)
def test_shapes_of_tokens_are_masked(secret: str) -> None:
    shown = Redactor()(None, "", {"event": f"refused: {secret}!", "deep": {"a": [secret, 1]}})
    assert secret not in str(shown)
    assert shown["event"] == f"refused: {MASK}!"
    assert shown["deep"] == {"a": [MASK, 1]}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("postgresql+asyncpg://ada:hunter22@db/friend", "postgresql+asyncpg://[secret]@db/friend"),
        ("Authorization: Bearer abc.def-ghi_jkl", "Authorization: Bearer [secret]"),
        (
            "wss://wss.slack.com/link/?ticket=abc-def&app_id=1",
            "wss://wss.slack.com/link/?ticket=[secret]&app_id=1",
        ),
    ],
)
def test_only_the_secret_part_is_masked(text: str, kept: str) -> None:
    assert Redactor().text(text) == kept


@given(st.text(min_size=6, max_size=40), st.text(), st.text())
def test_known_values_never_get_through(secret: str, before: str, after: str) -> None:
    if secret in MASK:
        return
    shown = Redactor([secret]).text(before + secret + after)
    assert secret not in shown.replace(MASK, "")


def test_a_secret_within_a_longer_one_leaves_no_rest() -> None:
    shown = Redactor(["secret-key", "secret-key-and-more"]).text("it is secret-key-and-more")
    assert shown == f"it is {MASK}"


@pytest.mark.parametrize(
    "text",
    [
        "model.failed",
        "2026-11-23T17:29:03.951111Z",
        "https://example.org/a:b@c",
        "a@b.c",
        "the model's file is torn at byte 1234567890123456789012345678",
        "bearer of news",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert Redactor().text(text) == text


def test_objects_are_masked_too() -> None:
    shown = Redactor(["hunter22"])(
        None, "", {"event": "x", "error": ValueError("hunter22"), "raw": b"hunter22"}
    )
    assert "hunter22" not in str(shown)


def test_secrets_are_found_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "discord-secret")
    monkeypatch.setenv("SLACK_SIGNING_SECRET", "slack-secret")
    monkeypatch.setenv("FRIEND_MODEL_API_KEY", "model-secret")
    assert {"discord-secret", "slack-secret", "model-secret"} <= set(secrets_of(load_settings()))
