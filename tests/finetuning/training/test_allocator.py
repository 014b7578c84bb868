"""The wishes are ones that this C library knows."""

from __future__ import annotations

import platform
import subprocess
import sys


def test_glibc_takes_every_wish() -> None:
    code = "from finetuning.training.allocator import keep_memory; print(keep_memory())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
