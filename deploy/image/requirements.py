"""Print the requirements that pyproject.toml names: `requirements.py build | bot [EXTRA...]`.

The images install them in a step of their own, which is repeated only when they change.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any


def requirements(project: dict[str, Any], what: str, extras: list[str]) -> list[str]:
    """Lines for pip: of the build itself, or of the bot with the named extras."""
    if what == "build":
        # Without isolation pip does not bring the build's own tools.
        return [*project["build-system"]["requires"], "cmake>=3.18", "ninja"]
    optional = project["project"]["optional-dependencies"]
    return [
        *project["project"]["dependencies"],
        *(one for name in extras for one in optional[name]),
    ]


if __name__ == "__main__":
    content = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    print("\n".join(requirements(content, sys.argv[1], sys.argv[2:])))
