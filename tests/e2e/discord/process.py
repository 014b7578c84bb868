"""`friend discord` as a process of its own, discord.py turned to the fake."""

from __future__ import annotations

import sys

from friend.cli import main
from tests.fakes.discord import apply_environment

if __name__ == "__main__":
    apply_environment()
    sys.argv = ["friend", "discord"]
    main()
