"""Writing one variable into a `.env` file, without harm to the rest of it."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from deploy.errors import OptionRefused


def write_variable(path: Path, name: str, value: str) -> str | None:
    """Set a variable; gives the value that was there, or None if there was none.

    The file is replaced at once, or not at all; every other line stays as it is, and so do its
    permissions. A new file can be read by its owner only.

    Raises:
        OptionRefused: the value would not survive, or the file cannot be written.
    """
    if re.search(r"[\s\"'#$\\]", value):
        raise OptionRefused(f"{value!r} cannot be written to {path} safely; set {name} by hand.")
    path = path.resolve()  # a link stays a link
    try:
        text = path.read_bytes().decode() if path.exists() else ""
        old, new = _changed(text, name, value)
        if new != text:
            _replace(path, new)
    except (OSError, UnicodeDecodeError) as error:
        raise OptionRefused(
            f"{path} cannot be written: {error}. Set {name}={value} by hand."
        ) from None
    return old


def _changed(text: str, name: str, value: str) -> tuple[str | None, str]:
    line_of = re.compile(
        rf"^[ \t]*(?:export[ \t]+)?{re.escape(name)}[ \t]*=(.*?)(\r?)$", re.MULTILINE
    )
    found = list(line_of.finditer(text))
    line = f"{name}={value}"
    if found:  # the last one counts for every reader; the others would only mislead
        last = found[-1]
        text = text[: last.start()] + line + last.group(2) + text[last.end() :]
        return last.group(1).strip(), text
    hint = re.search(rf"^#[ \t]*{re.escape(name)}=[ \t]*(\r?)$", text, re.MULTILINE)
    if hint:
        return None, text[: hint.start()] + line + hint.group(1) + text[hint.end() :]
    gap = "" if not text or text.endswith("\n") else "\n"
    return None, f"{text}{gap}{line}\n"


def _replace(path: Path, text: str) -> None:
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
