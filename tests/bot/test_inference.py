"""Which model may sleep, by its address and the settings."""

from __future__ import annotations

import pytest

from bot.inference import asleep_after, client_settings
from bot.settings import ModelSettings

FUNCTION = "https://abc.lambda-url.eu-west-1.on.aws"
HERE = "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("url", "setting", "seconds"),
    [
        (FUNCTION, None, 300),
        (FUNCTION, "", 300),
        (FUNCTION, "0", 0),
        (FUNCTION, "60", 60),
        ("http://model.example:8080/v1", None, 300),
        (HERE, None, 0),
        (HERE, "60", 60),
    ],
)
def test_a_model_elsewhere_may_sleep(
    url: str, setting: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting is not None:
        monkeypatch.setenv("FRIEND_MODEL_WAKE_AFTER_SECONDS", setting)
    settings = ModelSettings()
    assert asleep_after(settings, client_settings(settings, url)) == seconds
