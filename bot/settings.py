"""Every setting of the bot, by section, from the environment and `.env`.

Each field's description is what the README's table and `.env.example` say; units are part of the
name. Nothing is read at import: `load_settings` is called by the composition root.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bot.errors import SettingsInvalid

Ids = Annotated[frozenset[str], NoDecode]
"""A comma-separated list of platform ids."""


class Section(BaseSettings):
    """A group of settings under one prefix."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _split_ids(cls, value: object, info: object) -> object:
        field = cls.model_fields[info.field_name]  # type: ignore[attr-defined]
        if isinstance(value, str) and field.annotation == frozenset[str]:
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value


class ModelSettings(Section):
    """Where the replies come from."""

    model_config = SettingsConfigDict(env_prefix="FRIEND_MODEL_")

    url: str = Field(
        "",
        description=(
            "Base URL of the model: a Lambda Function URL, `friend serve`, or any "
            "OpenAI-compatible server. Empty: friend starts its own on a loopback port."
        ),
    )
    name: str = Field(
        "friend",
        min_length=1,
        description=(
            "Model name sent with each request; our own server takes any, and after a colon the "
            "name of a learnt state."
        ),
    )
    file: Path | None = Field(
        None,
        description=(
            "Model file or folder for the server that friend starts itself. "
            "Empty: the model in the package."
        ),
    )
    state: Path | None = Field(
        None,
        description=(
            "Learnt initial state (from state tuning) that conversations start from, for the "
            "server that friend starts itself; or a folder of them: each is then a model of its "
            "own, and FRIEND_MODEL_NAME chooses, as in `friend:pirate`."
        ),
    )
    threads: int = Field(
        0,
        ge=0,
        description=("Threads of the server that friend starts itself. 0: the CPUs it is given."),
    )
    auth: Literal["auto", "none", "bearer", "sigv4"] = Field(
        "auto",
        description=(
            "How to sign requests. auto: `sigv4` for a Function URL, `bearer` with a key, "
            "else none."
        ),
    )
    api_key: SecretStr = Field(SecretStr(""), description="Bearer key of the model server.")
    region: str = Field(
        "", description=("AWS region for `sigv4`. Empty: read from the Function URL.")
    )
    connect_seconds: float = Field(5.0, gt=0, description="Longest wait for a connection.")
    first_word_seconds: float = Field(
        60.0,
        gt=0,
        description=("Longest wait for a reply's first word; a cold start happens here."),
    )
    next_word_seconds: float = Field(30.0, gt=0, description="Longest pause within a reply.")
    total_seconds: float = Field(
        120.0, gt=0, description=("Longest wait for a whole reply, retries included.")
    )
    attempts: int = Field(4, ge=1, description="Tries for each reply before friend gives up.")
    wake_after_seconds: float | None = Field(
        None,
        ge=0,
        description=(
            "A model not used for so long may sleep: friend pings it as soon as a message comes, "
            "and not more often. 0: never. Empty: 300 for a model elsewhere, never for one on this "
            "machine, which does not sleep."
        ),
    )


class ReplySettings(Section):
    """How replies are made."""

    model_config = SettingsConfigDict(env_prefix="FRIEND_REPLY_")

    max_tokens: int = Field(120, ge=1, le=4096, description="Longest reply, in tokens.")
    temperature: float | None = Field(
        None,
        ge=0,
        le=5,
        description=(
            "Sampling temperature; 0 always takes the likeliest word. "
            "Empty: what the model server recommends."
        ),
    )
    top_p: float | None = Field(
        None,
        gt=0,
        le=1,
        description=(
            "Sample from the likeliest tokens of this total probability. "
            "Empty: what the model server recommends."
        ),
    )
    seed: int | None = Field(None, description="Fixed sampling seed, for tests and demos.")
    persona: str = Field(
        "",
        max_length=4000,
        description=("A system message put before every conversation (for models that know one)."),
    )
    window_characters: int = Field(
        6000,
        ge=200,
        description=(
            "Length of history the model is given, in characters; at this limit the older half is "
            "dropped at once, so that the model's cached state stays useful."
        ),
    )
    message_characters: int = Field(
        2000,
        ge=50,
        description=(
            "Longest single message the model is given, in characters; the rest is kept unread."
        ),
    )
    burst_seconds: float = Field(
        1.5,
        ge=0,
        description=(
            "Messages of one person within this time are answered together, if friend has not "
            "begun to answer."
        ),
    )


class TriggerSettings(Section):
    """When friend answers."""

    model_config = SettingsConfigDict(env_prefix="FRIEND_TRIGGER_")

    direct_messages: bool = Field(True, description="Answer direct messages.")
    replies: bool = Field(True, description="Answer replies to one of friend's messages.")
    threads: bool = Field(True, description="Answer in threads friend takes part in.")
    name: str = Field(
        "",
        description=(
            "Also answer when this name is said in plain text (Discord: needs the message-content "
            "intent)."
        ),
    )
    interject_probability: float = Field(
        0.0, ge=0, le=1, description=("Chance of answering a message nobody addressed to friend.")
    )


class AccessSettings(Section):
    """Who may talk to friend, and how much."""

    model_config = SettingsConfigDict(env_prefix="FRIEND_ACCESS_")

    allow_spaces: Ids = Field(
        frozenset(), description=("Discord server and Slack team ids friend works in. Empty: all.")
    )
    allow_channels: Ids = Field(frozenset(), description="Channel ids friend works in. Empty: all.")
    allow_people: Ids = Field(frozenset(), description="People friend answers. Empty: all.")
    block_spaces: Ids = Field(frozenset(), description="Servers and teams friend ignores.")
    block_channels: Ids = Field(frozenset(), description="Channels friend ignores.")
    block_people: Ids = Field(frozenset(), description="People friend ignores.")
    person_per_minute: int = Field(
        20, ge=0, description=("Replies a person gets in a minute. 0: no limit.")
    )
    channel_per_minute: int = Field(
        60, ge=0, description=("Replies a channel gets in a minute. 0: no limit.")
    )
    queue_depth: int = Field(
        20,
        ge=1,
        description=(
            "Messages of one conversation that may wait for a reply; past it friend says that it "
            "is behind."
        ),
    )


class StoreSettings(Section):
    """What friend remembers."""

    model_config = SettingsConfigDict(env_prefix="FRIEND_STORE_")

    url: SecretStr = Field(
        SecretStr(""),
        description=(
            "SQLAlchemy URL of the history: `sqlite+aiosqlite:///...` or "
            "`postgresql+asyncpg://...`. Empty: an SQLite file in the user's data folder."
        ),
    )
    retention_days: int = Field(
        30, ge=0, description=("Days a message is kept. 0: until it is forgotten by hand.")
    )
    answer_within_minutes: int = Field(
        15,
        ge=1,
        description=(
            "After a restart, or when a platform was unreachable, messages older than this are no "
            "longer answered."
        ),
    )


class DiscordSettings(Section):
    """Discord."""

    model_config = SettingsConfigDict(env_prefix="DISCORD_")

    token: SecretStr = Field(SecretStr(""), description="Bot token. Empty: no Discord.")
    message_content: bool = Field(
        False,
        description=(
            "Ask for the message-content intent (enable it in the developer portal first): friend "
            "then also hears follow-ups that do not mention it."
        ),
    )
    wake_on_typing: bool = Field(
        False,
        description=(
            "Ping a model that may sleep (FRIEND_MODEL_WAKE_AFTER_SECONDS) already when somebody "
            "begins to type in a direct message or in a thread friend is in."
        ),
    )
    proxy_applications: Ids = Field(
        frozenset(),
        description=(
            "Applications whose webhooks speak for people (PluralKit: 466378653216014359): what "
            "they say counts as said by a person. Empty: none."
        ),
    )


class SlackSettings(Section):
    """Slack."""

    model_config = SettingsConfigDict(env_prefix="SLACK_")

    bot_token: SecretStr = Field(SecretStr(""), description="Bot token (xoxb-). Empty: no Slack.")
    app_token: SecretStr = Field(
        SecretStr(""),
        description=("App-level token (xapp-) with connections:write, for Socket Mode."),
    )
    signing_secret: SecretStr = Field(
        SecretStr(""),
        description=(
            "Signing secret; with it and no app token, friend listens for signed HTTP events."
        ),
    )
    wake_on_open: bool = Field(
        False,
        description=(
            "Ping a model that may sleep (FRIEND_MODEL_WAKE_AFTER_SECONDS) already when somebody "
            "opens friend's messages."
        ),
    )
    proxy_applications: Ids = Field(
        frozenset(),
        description=(
            "Ids of apps (A...) that speak for people, such as bridges to other chats: what they "
            "say counts as said by a person. Empty: none."
        ),
    )
    http_host: str = Field("127.0.0.1", description="Address for signed HTTP events.")
    http_port: int = Field(3000, ge=0, le=65535, description="Port for signed HTTP events.")


class OpsSettings(Section):
    """Logs, metrics, health."""

    model_config = SettingsConfigDict(env_prefix="FRIEND_")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description=("Least severe message logged.")
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description=("auto: for people on a terminal, JSON lines otherwise.")
    )
    ops_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description=("Loopback port for `/metrics` and `/healthz`. Empty: off."),
    )
    drain_seconds: float = Field(
        20.0,
        ge=0,
        description=(
            "On SIGTERM, longest wait for replies under way; what is left is answered after the "
            "next start."
        ),
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All sections; read them with `load_settings`."""

    model: ModelSettings
    reply: ReplySettings
    trigger: TriggerSettings
    access: AccessSettings
    store: StoreSettings
    discord: DiscordSettings
    slack: SlackSettings
    ops: OpsSettings


SECTIONS: dict[str, type[Section]] = {
    "model": ModelSettings,
    "reply": ReplySettings,
    "trigger": TriggerSettings,
    "access": AccessSettings,
    "store": StoreSettings,
    "discord": DiscordSettings,
    "slack": SlackSettings,
    "ops": OpsSettings,
}


def load_settings() -> Settings:
    """Read the environment and `.env` of the working directory.

    Raises:
        SettingsInvalid: naming each wrong variable and what is wrong with it, never its value.
    """
    sections: dict[str, Any] = {}
    problems: list[str] = []
    for name, section in SECTIONS.items():
        try:
            sections[name] = section()
        except ValidationError as error:
            prefix = section.model_config.get("env_prefix", "")
            problems += [
                f"{prefix}{'_'.join(map(str, detail['loc']))}".upper() + f": {detail['msg']}"
                for detail in error.errors(include_input=False)
            ]
    if problems:
        raise SettingsInvalid("Some settings make no sense:\n  " + "\n  ".join(problems))
    return Settings(**sections)
