"""The `friend` command. Each house is imported only by the commands that need it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from friend import (
    bench_commands,
    deploy_commands,
    eval_commands,
    finetune_commands,
    model_commands,
    talks_commands,
)

if TYPE_CHECKING:
    from bot.settings import Settings

app = typer.Typer(
    name="friend",
    help="A chat companion for Discord and Slack that costs nothing when nobody talks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Run the command; a failure friend can explain is one sentence and exit status 1."""
    from bot.errors import FriendError
    from deploy.errors import DeployError
    from lambda_inference.errors import InferenceError

    try:
        app()
    except (FriendError, DeployError, InferenceError) as error:
        typer.secho(f"friend: {error}", err=True, fg=typer.colors.RED)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _settings() -> Settings:
    from bot.settings import load_settings

    return load_settings()


@app.command()
def chat(
    session: Annotated[
        str, typer.Option(help="Name of the conversation to go on with; each has its own memory.")
    ] = "default",
) -> None:
    """Talk with friend in the terminal. Needs no tokens and no settings."""
    from bot.chat import run_chat

    sys.exit(run_chat(_settings(), session=session))


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def serve(context: typer.Context) -> None:
    """Run the model server here (OpenAI chat completions). See `friend serve --help`."""
    from lambda_inference.serving.serve import main as serve_main

    sys.exit(serve_main(context.args))


@app.command()
def discord() -> None:
    """Answer on Discord. Needs DISCORD_TOKEN."""
    _run("discord")


@app.command()
def slack() -> None:
    """Answer on Slack. Needs SLACK_BOT_TOKEN, and SLACK_APP_TOKEN or SLACK_SIGNING_SECRET."""
    _run("slack")


@app.command()
def run() -> None:
    """Answer on every platform that has credentials, in one process."""
    _run()


@app.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what works, what is missing and how to get it."""
    from bot.doctor import run_doctor

    sys.exit(run_doctor(as_json=json))


class ManifestTarget(StrEnum):
    """What `friend manifest` prints."""

    SLACK = "slack"
    DISCORD = "discord"


@app.command()
def manifest(
    platform: Annotated[ManifestTarget, typer.Argument(help="slack or discord")],
    request_url: Annotated[
        str,
        typer.Option(
            help="Slack: public address of friend's signed HTTP events. Empty: Socket Mode."
        ),
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to a file instead.")
    ] = None,
) -> None:
    """Print Slack's app manifest, or the link that invites friend to a Discord server."""
    if platform is ManifestTarget.SLACK:
        import json

        from bot.platforms.slack import app_manifest

        text = json.dumps(app_manifest(request_url=request_url), indent=2, ensure_ascii=False)
    else:
        from bot.platforms.discord.invite import invite_link

        text = invite_link(_settings().discord)
    if output is None:
        typer.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
        typer.echo(f"Written to {output}.")


def _run(*names: str) -> None:
    """Run the named platforms, or all that have credentials."""
    from bot.run import run_platforms

    sys.exit(run_platforms(_settings(), names))


# The help lists commands in the order of their registration: first what everybody needs.
deploy_commands.register(app)
finetune_commands.register(app)
eval_commands.register(app)
talks_commands.register(app)
app.add_typer(model_commands.app, name="model")
app.add_typer(bench_commands.app, name="bench")
