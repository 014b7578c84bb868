"""Options, sources, costs and `.env`: what needs no AWS."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st

from deploy.containers import ContainerTool, Login, find_tool
from deploy.cost import Usage, gb_seconds, pings_a_month
from deploy.dotenv import write_variable
from deploy.errors import BuildFailed, OptionRefused
from deploy.settings import DeploySettings
from deploy.sources import find_sources
from friend.cli import app
from tests.deploy.conftest import ROOT


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"memory_mb": 127}, "--memory is 127, but must be from 128 to 10240."),
        ({"memory_mb": 10_241}, "--memory"),
        ({"timeout_seconds": 901}, "--timeout"),
        ({"keep_warm_minutes": -1}, "--keep-warm"),
        ({"log_days": 8}, "--log-days"),
        ({"architecture": "riscv"}, "--architecture"),
        ({"budget_dollars": 5}, "--budget-email"),
        ({"budget_dollars": 5, "budget_email": "me"}, "no address"),
        ({"name": "Friend"}, "--name"),
        ({"name": "friend-"}, "--name"),
    ],
)
def test_choices_out_of_range_name_their_option(choice: dict[str, object], said: str) -> None:
    with pytest.raises(OptionRefused, match=said):
        DeploySettings(**choice)  # type: ignore[arg-type]


@given(
    memory=st.integers(128, 10_240),
    warm=st.integers(0, 60),
    snap=st.booleans(),
    log_days=st.sampled_from([1, 14, 365]),
)
def test_what_the_stack_has_is_read_back_as_it_was(
    memory: int, warm: int, snap: bool, log_days: int
) -> None:
    chosen = DeploySettings(
        memory_mb=memory, keep_warm_minutes=warm, snap_start=snap, log_days=log_days
    )
    assert DeploySettings.choose("friend", {}, chosen.parameters("image")) == chosen


def test_a_budget_of_nothing_forgets_the_address_too() -> None:
    before = DeploySettings(budget_dollars=5, budget_email="me@example.org").parameters("image")
    assert DeploySettings.choose("friend", {"budget_dollars": 0}, before).budget_email == ""


def test_the_free_tier_is_taken_off_before_money_is() -> None:
    assert Usage(1_000_000, 400_000).dollars("x86_64") == 0
    assert Usage(2_000_000, 500_000).dollars("x86_64") == pytest.approx(0.20 + 1.66667)
    assert Usage(1000, 200_000).free_tier_share == 0.5
    assert gb_seconds(2048, 3) == 6
    assert (pings_a_month(5), pings_a_month(0)) == (8766, 0)


def test_the_fingerprint_follows_what_the_image_holds_and_nothing_else(checkout: Path) -> None:
    def now(architecture: str = "x86_64") -> str:
        return find_sources(checkout, None).fingerprint(architecture)

    first = now()
    (checkout / "notes.txt").write_text("something else\n")
    (checkout / "lambda_inference/__pycache__").mkdir()
    (checkout / "lambda_inference/__pycache__/model.pyc").write_bytes(b"x")
    assert now() == first
    assert now("arm64") != first
    (checkout / "lambda_inference/models/pocket/pocket.gguf").write_bytes(b"GGUF other")
    second = now()
    assert second != first
    with (checkout / "Dockerfile").open("a") as file:
        file.write("# more\n")
    assert now() != second


def test_a_model_from_elsewhere_is_put_where_the_build_sees_it(
    checkout: Path, tmp_path: Path
) -> None:
    for name in ("one.gguf", "two.gguf"):
        (tmp_path / name).write_bytes(name.encode())
        sources = find_sources(checkout, tmp_path / name)
        staged = checkout / sources.arguments()["MODEL_FILE"]
        assert staged.read_bytes() == name.encode()
        sources.arguments()
    assert [path.name for path in staged.parent.iterdir()] == ["two.gguf"]
    with pytest.raises(OptionRefused, match="friend model convert"):
        find_sources(checkout, tmp_path / "none.gguf")


def test_friends_own_checkout_can_be_fingerprinted() -> None:
    sources = find_sources(None, None)
    assert sources.folder == ROOT
    assert sources.model.nbytes > 1_000_000
    assert sources.fingerprint("x86_64") == sources.fingerprint("x86_64")


def test_no_checkout_and_no_tool_are_said_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BuildFailed, match="--source"):
        find_sources(tmp_path, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildFailed, match="Install docker, podman or buildah"):
        find_tool()


def test_docker_keeps_its_engine_and_never_its_persons_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    (own / "contexts").mkdir(parents=True)
    (own / "config.json").write_text('{"currentContext": "far", "auths": {"elsewhere": {}}}')
    seen = tmp_path / "seen"
    script = tmp_path / "docker"
    script.write_text(
        '#!/bin/sh\n[ "$1" = push ] || exit 0\n'
        f'cp "$DOCKER_CONFIG/config.json" {seen}\ntest -d "$DOCKER_CONFIG/contexts"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_CONFIG", str(own))
    before = (own / "config.json").read_text()

    login = Login("registry.example", "AWS", "secret")
    ContainerTool("docker").push("local", "registry.example/friend:1", login, print)

    told = json.loads(seen.read_text())
    assert told["currentContext"] == "far"
    assert list(told["auths"]) == ["registry.example"]
    assert (own / "config.json").read_text() == before


NAME = "FRIEND_MODEL_URL"
_LINES = st.lists(
    st.one_of(
        st.just(f"{NAME}=http://old"),
        st.just(f"#{NAME}="),
        st.just(f"export {NAME}='http://older'"),
        st.just(f"OTHER_{NAME}=x"),
        st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12),
    ),
    max_size=6,
)


@given(lines=_LINES, ending=st.sampled_from(["\n", "\r\n"]), closed=st.booleans())
@example(lines=[], ending="\n", closed=False)
def test_one_line_of_env_changes_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], ending: str, closed: bool
) -> None:
    path = tmp_path_factory.mktemp("env") / ".env"
    path.write_bytes((ending.join(lines) + (ending if closed and lines else "")).encode())
    write_variable(path, NAME, "https://new.example/")
    once = path.read_bytes()
    write_variable(path, NAME, "https://new.example/")
    assert path.read_bytes() == once
    after = once.decode().split("\n")
    assert [line.rstrip("\r") for line in after].count(f"{NAME}=https://new.example/") >= 1
    others = [line for line in lines if NAME not in line]
    kept = [line.removesuffix("\r") for line in after if NAME not in line]
    assert kept[: len(others)] == others or kept == [*others, ""]


def test_a_new_env_is_private_a_link_stays_a_link_and_modes_stay(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert write_variable(path, NAME, "https://a/") is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    real = tmp_path / "real"
    real.write_text(f"{NAME}=http://old\n")
    real.chmod(0o640)
    path.unlink()
    path.symlink_to(real)
    assert write_variable(path, NAME, "https://b/") == "http://old"
    assert path.is_symlink()
    assert real.read_text() == f"{NAME}=https://b/\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    with pytest.raises(OptionRefused, match="by hand"):
        write_variable(path, NAME, "two\nlines")


def friend(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "friend", *words],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"PYTHONPATH": str(ROOT), "AWS_EC2_METADATA_DISABLED": "true"},
        check=False,
    )


def test_a_dry_run_needs_no_aws_at_all(checkout: Path) -> None:
    done = friend("deploy", "--dry-run", "--source", str(checkout), "--state-days", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("AWSTemplateFormatVersion")
    for part in ("no AWS was asked", "pocket", "AWS::Lambda::Url", "AWS::S3::Bucket", "10958"):
        assert part in done.stderr
    assert "SnapStart" not in done.stderr


def test_a_plan_says_what_was_chosen(checkout: Path) -> None:
    choices = ["--concurrency", "5", "--snap-start", "--keep-warm", "0", "--state-days", "2"]
    choices += ["--budget", "3", "--budget-email", "ann@example.org", "--memory", "3538"]
    done = friend("deploy", "--dry-run", "--source", str(checkout), *choices)
    for part in (
        "3538 MB (2.0 vCPU)",
        "from a snapshot",
        "at most 5 replies at once, reserved",
        "Pings    none",
        "logs for 14 days; conversation states for 2 days",
        "$3 a month; ann@example.org is told",
        "AWS::Lambda::Alias",
        "AWS::Budgets::Budget",
    ):
        assert part in done.stderr
    assert "AWS::Scheduler::Schedule" not in done.stderr


def test_the_guide_speaks_of_options_and_commands_that_there_are() -> None:
    text = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    commands = cast("Any", typer.main.get_command(app)).commands
    for command, words in re.findall(r"^\$ friend (\w+)(.*)$", text, re.MULTILINE):
        known = {option for one in commands[command].params for option in one.opts}
        assert {word for word in words.split() if word.startswith("--")} <= known, command
    table = {
        option
        for options in re.findall(r"^\| (`--.+?) \|", text, re.MULTILINE)
        for option in re.findall(r"--[a-z-]+", options)
    }
    assert len(table) == 11
    assert table <= {option for one in commands["deploy"].params for option in one.opts}


def test_a_failure_is_one_sentence_and_status_1(checkout: Path) -> None:
    done = friend("deploy", "--dry-run", "--source", str(checkout), "--memory", "64")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == "friend: --memory is 64, but must be from 128 to 10240."
