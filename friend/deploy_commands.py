"""`friend deploy`, `status`, `warm`, `destroy`."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from deploy.aws import Aws
    from deploy.deployment import Deployment
    from deploy.status import Status

Name = Annotated[
    str, typer.Option("--name", envvar="FRIEND_DEPLOY_NAME", help="Name of the stack and function.")
]
Region = Annotated[
    str | None, typer.Option("--region", help="AWS region; else AWS_REGION or the profile's.")
]
Profile = Annotated[
    str | None, typer.Option("--profile", help="Profile of ~/.aws/config; else AWS_PROFILE.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


class Tool(StrEnum):
    """What builds the image."""

    DOCKER = "docker"
    PODMAN = "podman"
    BUILDAH = "buildah"


class Architecture(StrEnum):
    """What the function runs on."""

    X86_64 = "x86_64"
    ARM64 = "arm64"


def register(app: typer.Typer) -> None:
    """Add the commands to `friend`."""
    app.command()(deploy)
    app.command()(status)
    app.command()(warm)
    app.command()(destroy)


def deploy(
    name: Name = "friend",
    region: Region = None,
    profile: Profile = None,
    model: Annotated[
        Path | None,
        typer.Option(help="A .gguf file for the image, or `pocket`, the package's own model."),
    ] = None,
    memory: Annotated[
        int | None, typer.Option(help="MB of memory, 128-10240; 1769 is one vCPU. Default: 1769.")
    ] = None,
    timeout: Annotated[
        int | None, typer.Option(help="Seconds for one reply, 10-900. Default: 120.")
    ] = None,
    architecture: Annotated[
        Architecture | None, typer.Option(help="What it runs on. Default: as this machine.")
    ] = None,
    keep_warm: Annotated[
        int | None, typer.Option(help="Minutes between warm pings, 0 for none. Default: 4.")
    ] = None,
    log_days: Annotated[int | None, typer.Option(help="Days logs are kept. Default: 14.")] = None,
    state_days: Annotated[
        int | None,
        typer.Option(
            help="Days conversation states are shared in S3, 0 for no bucket. Default: 0."
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(help="Replies made at once at most, 0 for the account's limit. Default: 0."),
    ] = None,
    snap_start: Annotated[
        bool | None,
        typer.Option("--snap-start/--no-snap-start", help="Start from snapshots. Default: no."),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(help="US dollars a month of the whole account, 0 for none. Default: 0."),
    ] = None,
    budget_email: Annotated[
        str | None, typer.Option(help="Who is told when the budget is nearly spent.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="Checkout of friend to build from. Default: this one.")
    ] = None,
    base_image: Annotated[
        str, typer.Option(help="Base image of the build. Default: the Dockerfile's.")
    ] = "",
    tool: Annotated[
        Tool | None, typer.Option(help="What builds the image. Default: the first there is.")
    ] = None,
    write_env: Annotated[
        bool, typer.Option("--write-env", help="Write FRIEND_MODEL_URL into .env.")
    ] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke/--no-smoke", help="Ask for one reply at the end.")
    ] = True,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Change nothing: print the plan, and the template to stdout."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put the model on AWS Lambda. Safe to repeat; what is not said stays as it is."""
    from deploy.containers import find_tool
    from deploy.deployment import deploy as run
    from deploy.progress import Progress
    from deploy.sources import find_sources

    given: dict[str, Any] = {
        "model": model,
        "memory_mb": memory,
        "timeout_seconds": timeout,
        "architecture": architecture and architecture.value,
        "keep_warm_minutes": keep_warm,
        "log_days": log_days,
        "state_days": state_days,
        "concurrency": concurrency,
        "snap_start": snap_start,
        "budget_dollars": budget,
        "budget_email": budget_email,
    }
    sources = find_sources(source, model, base_image)
    progress = Progress()
    if dry_run:
        from deploy.plan import plan, show

        found = plan(
            _aws_if_any(region, profile),
            name,
            given,
            sources,
            region=region or os.environ.get("AWS_REGION", ""),
        )
        if not as_json:
            show(found, progress)
        typer.echo(json.dumps(found.as_dict(), indent=2) if as_json else found.template)
        return
    done = run(
        _aws(region, profile),
        name,
        given,
        sources,
        lambda: find_tool(tool.value if tool else ""),
        progress,
        pause=_pause(),
        try_it=smoke,
    )
    if write_env:
        _write_env(done.url)
    if as_json:
        typer.echo(json.dumps(done.as_dict(), indent=2))
    else:
        _say_done(done, write_env=write_env)


def status(
    name: Name = "friend",
    region: Region = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Say how the deployed function is, and what it cost this month. Wakes nothing."""
    from deploy.stack import Stack
    from deploy.status import status as ask

    aws = _aws(region, profile)
    found = ask(aws, Stack(aws, name))
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        _show_status(found)


def warm(
    name: Name = "friend",
    region: Region = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Wake the deployed function, so that the next reply comes at once."""
    from dataclasses import asdict

    from deploy.stack import Stack
    from deploy.warm import warm as ping

    aws = _aws(region, profile)
    found = ping(aws, Stack(aws, name))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
        return
    before = "was awake already" if found.init_ms is None else f"woke in {found.init_ms:.0f} ms"
    typer.echo(f"The function {before} (ping: {found.seconds:.2f} s; model: {found.model}).")


def destroy(
    name: Name = "friend",
    region: Region = None,
    profile: Profile = None,
    keep_images: Annotated[
        bool, typer.Option("--keep-images", help="Leave the ECR repository as it is.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove all that `friend deploy` made on AWS, and say what stays."""
    from dataclasses import asdict

    from deploy.destroy import destroy as run
    from deploy.progress import Progress

    aws = _aws(region, profile)
    if not yes:
        number, _ = aws.account()
        typer.confirm(
            f"Remove friend's stack {name} from account {number}, {aws.region}?",
            abort=True,
            err=True,
        )
    done = run(aws, name, Progress(), keep_images=keep_images, pause=_pause())
    if as_json:
        typer.echo(json.dumps(asdict(done), indent=2))
        return
    for title, lines in (
        ("Removed", done.removed or ["nothing: it was not there"]),
        ("Kept", done.kept),
    ):
        typer.echo(f"{title}:")
        for line in lines:
            typer.echo(f"  {line}")


def _aws(region: str | None, profile: str | None) -> Aws:
    from deploy.aws import Aws

    return Aws(region=region, profile=profile)


def _aws_if_any(region: str | None, profile: str | None) -> Aws | None:
    """AWS, or None where this machine knows nothing of it."""
    from deploy.aws import Aws
    from deploy.errors import BotoMissing

    try:
        aws = Aws(region=region, profile=profile)
    except BotoMissing:
        return None
    return aws if aws.has_credentials else None


def _pause() -> float:
    """Seconds between looks at AWS; tests look more often."""
    return float(os.environ.get("FRIEND_DEPLOY_PAUSE_SECONDS", "3"))


def _write_env(url: str) -> None:
    from deploy.dotenv import write_variable

    old = write_variable(Path(".env"), "FRIEND_MODEL_URL", url)
    was = f" (it was {old})" if old and old != url else ""
    typer.echo(f"FRIEND_MODEL_URL is set in .env{was}.", err=True)


def _say_done(done: Deployment, *, write_env: bool) -> None:
    typer.echo(done.url)
    if not done.changed:
        typer.echo("Nothing had to be changed.", err=True)
    if not write_env:
        typer.echo(
            f"Put FRIEND_MODEL_URL={done.url} into .env (or repeat with --write-env); then "
            "`friend chat` talks with it.",
            err=True,
        )
    typer.echo(
        f"The bot's own AWS user needs the policy {done.caller_policy} and no other.", err=True
    )


def _show_status(found: Status) -> None:
    from rich.console import Console
    from rich.table import Table

    from deploy.cost import image_verdict

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    cold = found.cold_start
    last = found.last_call or "none in the past hour"
    rows = {
        "Function": f"{found.name} in {found.region}: {found.function} ({found.stack})",
        "URL": found.url,
        "Memory": f"{found.memory_mb} MB, {found.architecture}",
        "Image": f"{image_verdict(found.image_bytes)}; {found.image}" if found.image else "unknown",
        "Warm": f"{'probably' if found.warm else 'no'} (last call: {last})",
        "Cold start": f"{cold.milliseconds:.0f} ms at {cold.at}; {found.cold_starts} this month"
        if cold
        else "none this month",
        "This month": f"{found.requests} calls, {found.gb_seconds:.0f} GB-s, "
        f"{found.free_tier_share:.1%} of the free tier; about ${found.dollars:.2f} for Lambda",
        "Caller policy": found.caller_policy,
    }
    for title, text in rows.items():
        table.add_row(title, text)
    Console(highlight=False, soft_wrap=True).print(table)
