"""Running the checks and telling a person, or a program, what they found."""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bot.doctor.findings import Finding, Status
from bot.doctor.model import check_history, check_model
from bot.doctor.platforms import check_discord, check_slack
from bot.errors import FriendError, SettingsInvalid
from bot.ops.logging import configure
from bot.settings import OpsSettings, Settings, load_settings

_MARKS = {Status.OK: ("✓", "green"), Status.ABSENT: ("-", "dim"), Status.BROKEN: ("✗", "red")}

_CHECKS: dict[str, Callable[[Settings], Awaitable[Finding]]] = {
    "Model": check_model,
    "History": check_history,
    "Discord": check_discord,
    "Slack": check_slack,
}


def run_doctor(*, as_json: bool) -> int:
    """Print the findings; return 1 if anything that is set up does not work, else 0."""
    configure(OpsSettings.model_construct(log_level="ERROR"))
    if as_json:
        findings = asyncio.run(examine())
        rows = [asdict(finding) for finding in findings]
        sys.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    else:
        console = Console()
        with console.status("Looking at each part…"):
            findings = asyncio.run(examine())
        console.print(_table(findings))
        console.print(_summary(findings))
    return int(any(finding.status is Status.BROKEN for finding in findings))


async def examine() -> list[Finding]:
    """Check each part by using it."""
    python = Finding("Python", Status.OK, f"{platform.python_version()} on {sys.platform}")
    try:
        settings = load_settings()
    except SettingsInvalid as error:
        remedy = "Correct them in the environment or in .env; .env.example explains each."
        return [python, Finding("Settings", Status.BROKEN, str(error), remedy)]
    found = await asyncio.gather(
        *(_safely(part, check, settings) for part, check in _CHECKS.items())
    )
    return [python, *found]


async def _safely(
    part: str, check: Callable[[Settings], Awaitable[Finding]], settings: Settings
) -> Finding:
    try:
        return await check(settings)
    except FriendError as error:
        return Finding(part, Status.BROKEN, str(error))


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    for finding in findings:
        mark, style = _MARKS[finding.status]
        detail = Text(finding.detail)
        if finding.remedy:
            detail.append(f"\n{finding.remedy}", style="dim")
        table.add_row(Text(mark, style=style), Text(finding.part, style="bold"), detail)
    return table


def _summary(findings: Sequence[Finding]) -> Text:
    broken = [finding.part for finding in findings if finding.status is Status.BROKEN]
    if broken:
        return Text(f"\nTo mend: {', '.join(broken)}.", style="red")
    if any(
        finding.part in {"Discord", "Slack"} and finding.status is Status.OK for finding in findings
    ):
        return Text("\nAll set. `friend run` answers on every platform above.", style="green")
    return Text("\nReady to talk: `friend chat`. A token adds Discord or Slack.", style="green")
