"""The command, as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def friend(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "friend", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_help_lists_the_commands(tmp_path: Path) -> None:
    shown = friend("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for command in ("chat", "serve", "discord", "slack", "run", "doctor", "manifest"):
        assert f" {command} " in shown.stdout


def test_run_without_credentials_says_what_to_do(tmp_path: Path) -> None:
    shown = friend("run", cwd=tmp_path)
    assert shown.returncode == 1
    assert "friend doctor" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_discord_without_a_token_names_the_variable(tmp_path: Path) -> None:
    shown = friend("discord", cwd=tmp_path)
    assert shown.returncode == 1
    assert "DISCORD_TOKEN" in shown.stderr


def test_settings_that_make_no_sense_are_named(tmp_path: Path) -> None:
    shown = friend("run", cwd=tmp_path, FRIEND_REPLY_MAX_TOKENS="many", SLACK_HTTP_PORT="70000")
    assert shown.returncode == 1
    assert "FRIEND_REPLY_MAX_TOKENS" in shown.stderr
    assert "SLACK_HTTP_PORT" in shown.stderr


def test_the_slack_manifest_is_json(tmp_path: Path) -> None:
    manifest = json.loads(friend("manifest", "slack", cwd=tmp_path).stdout)
    assert manifest["settings"]["socket_mode_enabled"] is True
    file = tmp_path / "manifest.json"
    url = "https://friend.example/slack/events"
    shown = friend("manifest", "slack", "--request-url", url, "-o", str(file), cwd=tmp_path)
    assert shown.returncode == 0
    assert json.loads(file.read_text())["settings"]["event_subscriptions"]["request_url"] == url


def test_the_discord_link_invites_the_bot_of_the_token(tmp_path: Path) -> None:
    shown = friend(
        "manifest", "discord", cwd=tmp_path, DISCORD_TOKEN="MTIzNDU2Nzg5MDEyMzQ1Njc4.dummy.dummy"
    )
    assert "client_id=123456789012345678" in shown.stdout


@pytest.mark.slow
def test_doctor_is_content_with_nothing_set(tmp_path: Path) -> None:
    shown = friend("doctor", "--json", cwd=tmp_path)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    findings = {finding["part"]: finding for finding in json.loads(shown.stdout)}
    assert findings["Model"]["status"] == "ok"
    assert findings["History"]["status"] == "ok"
    assert findings["Discord"]["status"] == "absent"
    assert "discord.com/developers" in findings["Discord"]["remedy"]


@pytest.mark.slow
def test_doctor_finds_bad_tokens(tmp_path: Path) -> None:
    shown = friend(
        "doctor",
        cwd=tmp_path,
        DISCORD_TOKEN="nonsense",
        SLACK_BOT_TOKEN="nonsense",
        SLACK_APP_TOKEN="xapp-dummy",
    )
    assert shown.returncode == 1
    assert "DISCORD_TOKEN is not a bot token" in " ".join(shown.stdout.split())
    assert "SLACK_BOT_TOKEN does not start with xoxb-" in " ".join(shown.stdout.split())
    assert "nonsense" not in shown.stdout


def test_doctor_names_settings_that_make_no_sense(tmp_path: Path) -> None:
    shown = friend("doctor", cwd=tmp_path, FRIEND_REPLY_MAX_TOKENS="0")
    assert shown.returncode == 1
    assert "FRIEND_REPLY_MAX_TOKENS" in shown.stdout
