"""The generated documentation is what the settings classes say."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from bot.settings import SECTIONS, load_settings
from friend.reference import env_example, sections, with_settings_table

ROOT = Path(__file__).parents[2]
HINT = "run `make docs`"


def test_the_example_is_current() -> None:
    assert (ROOT / ".env.example").read_text("utf-8") == env_example(), HINT


def test_the_readme_table_is_current() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert readme == with_settings_table(readme), HINT


def test_every_setting_is_explained_once() -> None:
    variables = [variable for found in sections().values() for variable in found]
    assert all(variable.meaning.endswith((".", ")")) for variable in variables)
    names = [variable.name for variable in variables]
    assert len(names) == len(set(names))


def test_the_example_with_everything_switched_on_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        line.removeprefix("#") if "=" in line.split()[0] else line
        for line in env_example().splitlines()
        if line.strip()
    ]
    (tmp_path / ".env").write_text("\n".join(lines), "utf-8")
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    for name, section in SECTIONS.items():
        assert issubclass(section, BaseSettings)
        assert getattr(settings, name) == section(_env_file=None)  # type: ignore[call-arg]


def test_a_readme_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        with_settings_table("# friend")
