"""In a pipe: a line in, a reply out, and nothing else on standard output."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.platforms.terminal.plain import read_lines, talk_plainly
from tests.bot.platforms.terminal.conftest import Desk, SitDown
from tests.fakes.model import FakeModel

ROOT = Path(__file__).parents[4]


async def _lines(text: str) -> AsyncIterator[str]:
    for line in text.split("\n"):
        yield line


async def _talk(desk: Desk, text: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    status = await talk_plainly(
        desk.exchange, _lines(text), out=out, err=err, cause=lambda: "the wire is cut"
    )
    return status, out.getvalue(), err.getvalue()


async def test_lines_are_answered_in_order_and_blank_ones_passed_over(sit_down: SitDown) -> None:
    async with sit_down() as desk:
        status, out, err = await _talk(desk, "hi friend\n\n   \nwhat music?\n")
    assert (status, out, err) == (0, "I heard: hi friend\nI heard: what music?\n", "")


async def test_a_reply_is_always_one_line(sit_down: SitDown, model: FakeModel) -> None:
    model.reply_with("first\n\nsecond\nthird")
    async with sit_down() as desk:
        assert (await _talk(desk, "x"))[1] == "first second third\n"


async def test_a_failure_is_explained_by_line_and_the_rest_goes_on(
    sit_down: SitDown, model: FakeModel
) -> None:
    model.faults.none()
    model.faults.status(400)
    async with sit_down() as desk:
        status, out, err = await _talk(desk, "one\n\ntwo\nthree")
    assert (status, out) == (1, "I heard: one\nI heard: three\n")
    assert err.startswith("friend: no reply to line 3: I can't think just now.")
    assert "cause: the wire is cut" in err


async def test_commands_are_obeyed(sit_down: SitDown, model: FakeModel) -> None:
    async with sit_down() as desk:
        commands = "/again\n/reset\n/about\n/help\n/forget-me\n/quit"
        status, out, _ = await _talk(desk, f"one\n{commands}\nno")
        lines = out.splitlines()
    assert status == 0
    assert lines[:2] == ["I heard: one", "I heard: one"]
    assert lines[2].startswith("Done.")
    assert lines[3].startswith("I'm friend")
    assert "/forget-me" in lines[4]
    assert lines[5].startswith("I've erased 1 message")
    assert len(lines) == 6
    assert len(model.requests) == 2


async def test_a_typo_in_a_command_fails_clearly(sit_down: SitDown, model: FakeModel) -> None:
    async with sit_down() as desk:
        status, out, err = await _talk(desk, "/rest\nhi")
    assert (status, out) == (1, "I heard: hi\n")
    assert "/rest" in err
    assert len(model.requests) == 1


async def test_a_line_of_100_000_characters_and_strange_text(sit_down: SitDown) -> None:
    async with sit_down() as desk:
        long = "x" * 100_000
        status, out, _ = await _talk(desk, f"{long}\nשלום 👩‍👩‍👧 \u202eabc\n\x07\x1b[31mred")
    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 3
    assert lines[1] == "I heard: שלום 👩‍👩‍👧 \u202eabc"
    assert lines[2] == "I heard: [31mred"


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a\n", b"b"], ["a", "b"]),
        ([b"\xef\xbb\xbfhi\r\n"], ["hi\r"]),
        ([b"caf\xc3", b"\xa9\n"], ["café"]),
        ([b"bad \xff byte\n"], ["bad \ufffd byte"]),
        ([b"cut \xc3"], ["cut \ufffd"]),
        ([], []),
    ],
)
async def test_reading_lines(chunks: list[bytes], lines: list[str]) -> None:
    reader, writer = os.pipe()

    async def write() -> None:
        for chunk in chunks:
            os.write(writer, chunk)
            await asyncio.sleep(0.02)
        os.close(writer)

    writing = asyncio.create_task(write())
    assert [line async for line in read_lines(reader)] == lines
    await writing
    os.close(reader)


async def _run_chat(model: FakeModel, text: str, **kwargs: object) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error::ResourceWarning",
        "-m",
        "friend",
        "chat",
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate(text.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.usefixtures("settings")
async def test_the_command_in_a_pipe(model: FakeModel) -> None:
    status, out, err = await _run_chat(model, "hi friend\nwhat music do you like?\n")
    assert out == "I heard: hi friend\nI heard: what music do you like?\n"
    assert err == ""
    assert status == 0


@pytest.mark.usefixtures("settings")
async def test_the_command_without_a_model(model: FakeModel, tmp_path: Path) -> None:
    model.faults.status(404, times=9)
    status, out, err = await _run_chat(model, "hi friend\n")
    assert status == 1
    assert out == ""
    assert "no reply to line 1" in err
    assert "cause: The model's server does not know this address or model" in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("settings")
async def test_the_command_with_a_reader_that_leaves(model: FakeModel) -> None:
    model.reply_with("x" * 70_000)
    command = f"yes hi | head -50 | {sys.executable} -m friend chat | head -c 10"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        f"set -o pipefail; {command}",
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert out == b"x" * 10
    assert err == b""


@pytest.mark.usefixtures("settings")
async def test_what_the_locale_cannot_write_is_replaced(
    model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    model.reply_with("schön 😀")
    status, out, err = await _run_chat(model, "hi\n")
    assert (status, out, err) == (0, "sch?n ?\n", "")
