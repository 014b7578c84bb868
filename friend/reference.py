"""The generated parts of the documentation: `.env.example` and the README's settings table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from bot.settings import SECTIONS, Section

_BEGIN, _END = "<!-- settings: begin -->", "<!-- settings: end -->"


def env_example() -> str:
    """`.env.example`: every setting with its meaning and default, nothing set."""
    lines = ["# Copy to .env and set what you need; friend works with nothing set."]
    for section in SECTIONS.values():
        lines += ["", f"# --- {_title(section)}"]
        for name, field in _variables(section):
            lines += [f"# {line}" for line in wrap(field.description or "", 96)]
            lines.append(f"#{name}={_default(field)}")
    return "\n".join(lines) + "\n"


def settings_table() -> str:
    """The README's table: a row a setting, by section."""
    rows: list[str] = []
    for section in SECTIONS.values():
        rows += [
            "",
            f"**{_title(section)}**",
            "",
            "| variable | default | meaning |",
            "|---|---|---|",
        ]
        rows += [
            f"| `{name}` | {f'`{default}`' if (default := _default(field)) else ''} "
            f"| {(field.description or '').replace('|', chr(92) + '|')} |"
            for name, field in _variables(section)
        ]
    return "\n".join(rows).strip() + "\n"


def with_settings_table(readme: str) -> str:
    """The README with its table made anew.

    Raises:
        ValueError: the README does not say where the table goes.
    """
    pattern = re.compile(f"{_BEGIN}.*{_END}", re.DOTALL)
    if not pattern.search(readme):
        raise ValueError(f"README.md lacks {_BEGIN} and {_END}")
    table = f"{_BEGIN}\n{settings_table()}{_END}"
    return pattern.sub(lambda _: table, readme)


def _variables(section: type[Section]) -> Iterator[tuple[str, FieldInfo]]:
    prefix = section.model_config.get("env_prefix", "")
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}".upper(), field


def _title(section: type[Section]) -> str:
    return (section.__doc__ or "").strip().rstrip(".")


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default()
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if value is None or value == frozenset():
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def main() -> None:
    """Write both files in the working directory."""
    readme = Path("README.md")
    readme.write_text(with_settings_table(readme.read_text("utf-8")), "utf-8")
    Path(".env.example").write_text(env_example(), "utf-8")


if __name__ == "__main__":
    main()
