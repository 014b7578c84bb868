"""Settings come from the environment, each with a description, a unit where it counts, a range."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from lambda_inference.errors import SettingsError
from lambda_inference.settings import ModelSettings, ServerSettings, model_path

ALL: list[type[Any]] = [ModelSettings, ServerSettings]


@pytest.mark.parametrize("cls", ALL)
def test_each_is_described_and_numbers_have_a_unit_or_a_range(cls: type[Any]) -> None:
    for one in fields(cls):
        about = one.metadata
        assert about["description"].endswith("."), one.name
        if isinstance(one.default, int | float):
            assert about["unit"] or about["high"] is not None, one.name


@pytest.mark.parametrize("cls", ALL)
def test_defaults_are_what_an_empty_environment_gives(cls: type[Any]) -> None:
    assert cls.from_environment({}) == cls()
    empty = {cls.variable(one): "  " for one in fields(cls)}
    assert cls.from_environment(empty) == cls()


def test_values_are_read_with_their_types() -> None:
    settings = ServerSettings.from_environment(
        {"FRIEND_SERVER_PORT": "0", "FRIEND_SERVER_TEMPERATURE": "1.5", "FRIEND_SERVER_KEY": "k",
         "OTHER": "x"}
    )  # fmt: skip
    assert (settings.port, settings.temperature, settings.key) == (0, 1.5, "k")


def test_the_key_is_not_shown() -> None:
    assert "sesame" not in repr(ServerSettings(key="sesame"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FRIEND_SERVER_PORT", "many"),
        ("FRIEND_SERVER_PORT", "65536"),
        ("FRIEND_SERVER_PARALLEL", "0"),
        ("FRIEND_SERVER_TEMPERATURE", "nan"),
        ("FRIEND_SERVER_TEMPERATURE", "hot"),
        ("FRIEND_SERVER_QUEUE", "1.5"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        ServerSettings.from_environment({variable: value})


def test_choices_are_named() -> None:
    with pytest.raises(SettingsError, match="native, reference"):
        ModelSettings.from_environment({"FRIEND_MODEL_ENGINE": "quantum"})


def test_a_path_may_begin_at_home() -> None:
    assert "~" not in str(model_path(ModelSettings(file="~/x.gguf")))
