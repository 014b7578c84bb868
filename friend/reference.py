"""The generated parts of the documentation: `.env.example` and the README's settings table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import wrap
from typing import Any

from pydantic import SecretStr

from bot.settings import SECTIONS, Section
from lambda_inference.settings import ModelSettings as ServedModelSettings
from lambda_inference.settings import ServerSettings

_UNITS = {"seconds", "bytes", "MB"}
"""Units worth naming; the others say again what is counted."""
_BEGIN, _END = "<!-- settings: begin -->", "<!-- settings: end -->"


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable."""

    name: str
    default: str
    meaning: str


def sections() -> dict[str, list[Variable]]:
    """Every setting by section title: the bot's, then what only the model server reads."""
    found = {_title(section): list(_of_bot(section)) for section in SECTIONS.values()}
    known = {variable.name for variables in found.values() for variable in variables}
    served = [*_of_server(ServedModelSettings), *_of_server(ServerSettings)]
    found["The model server (`friend serve`, Lambda)"] = [
        variable for variable in served if variable.name not in known
    ]
    return found


def env_example() -> str:
    """`.env.example`: every setting with its meaning and default, nothing set."""
    lines = ["# Copy to .env and set what you need; friend works with nothing set."]
    for title, variables in sections().items():
        lines += ["", f"# --- {title}"]
        for variable in variables:
            lines += [f"# {line}" for line in wrap(variable.meaning, 96)]
            lines.append(f"#{variable.name}={variable.default}")
    return "\n".join(lines) + "\n"


def settings_table() -> str:
    """The README's table: a row a setting, by section."""
    rows: list[str] = []
    for title, variables in sections().items():
        rows += ["", f"**{title}**", "", "| variable | default | meaning |", "|---|---|---|"]
        for variable in variables:
            default = f"`{variable.default}`" if variable.default else ""
            meaning = variable.meaning.replace("|", "\\|")
            rows.append(f"| `{variable.name}` | {default} | {meaning} |")
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


def _of_bot(section: type[Section]) -> Iterator[Variable]:
    prefix = section.model_config.get("env_prefix", "")
    for name, field in section.model_fields.items():
        yield Variable(
            f"{prefix}{name}".upper(), _written(field.get_default()), field.description or ""
        )


def _of_server(settings: type[ServerSettings] | type[ServedModelSettings]) -> Iterator[Variable]:
    for one in fields(settings):
        unit = one.metadata["unit"]
        meaning = one.metadata["description"] + (f" In {unit}." if unit in _UNITS else "")
        yield Variable(settings.variable(one), _written(one.default), meaning)


def _title(section: type[Section]) -> str:
    return (section.__doc__ or "").strip().rstrip(".")


def _written(value: Any) -> str:
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
