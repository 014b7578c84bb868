"""Which process answers in a conversation, and whether it still lives.

An owner that has died without a word is found out by its lease; on the same machine at once, by
its process id. The name holds what tells two processes of one id apart: the time the process
began, and the namespace its id counts in (two containers may share a host name).
"""

from __future__ import annotations

import os
import socket
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

LEASE = timedelta(seconds=20)
"""An owner that has not renewed its lease for so long is taken for dead."""

_HOST_CHARACTERS = 100


def this_owner() -> str:
    """A new name for this process as an owner."""
    pid = os.getpid()
    host = quote(socket.gethostname()[:_HOST_CHARACTERS], safe="")
    return "/".join((host, _namespace(), str(pid), _began(pid), uuid4().hex[:12]))


def is_gone(owner: str) -> bool:
    """Whether the process of that name certainly lives no more; False where one cannot know."""
    if sys.platform == "win32":
        return False  # there, the harmless signal 0 ends a process
    host, namespace, pid, began, _ = owner.split("/")
    here = (quote(socket.gethostname()[:_HOST_CHARACTERS], safe=""), _namespace())
    if (host, namespace) != here:
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _began(int(pid)) != began


def _namespace() -> str:
    try:
        return quote(str(Path("/proc/self/ns/pid").readlink()), safe="")
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a living process began, in ticks since the boot (proc(5)); "" if it cannot be known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *numbers = stat.rpartition(")")[2].split()
    return "" if state in {"Z", "X"} else numbers[18]
