"""What is deployed: every choice, with its unit and range.

The stack's parameters are the memory of these choices: a later run that does not name one keeps
what the stack has.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from deploy.errors import OptionRefused

_NAME = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
LOG_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365)
"""What CloudWatch takes, up to a year."""
SHIPPED_MODEL = "pocket"
"""The model that the package, and so every image, holds."""


def _parameter(
    default: Any, name: str, option: str, *, low: int | None = None, high: int | None = None
) -> Any:
    return field(
        default=default, metadata={"parameter": name, "option": option, "low": low, "high": high}
    )


@dataclass(frozen=True)
class DeploySettings:
    """One stack. Memory in MB; 1769 MB come with one vCPU, and new accounts end at 3008 MB.

    Raises:
        OptionRefused: a value is out of range; names the option. cfn-lint and CloudFormation
            accept some of these, and Lambda refuses them only half-way.
    """

    name: str = "friend"
    model_name: str = _parameter(SHIPPED_MODEL, "ModelName", "--model")
    architecture: str = _parameter("x86_64", "Architecture", "--architecture")
    memory_mb: int = _parameter(1769, "MemoryMegabytes", "--memory", low=128, high=10_240)
    timeout_seconds: int = _parameter(120, "TimeoutSeconds", "--timeout", low=10, high=900)
    keep_warm_minutes: int = _parameter(4, "KeepWarmMinutes", "--keep-warm", low=0, high=60)
    log_days: int = _parameter(14, "LogDays", "--log-days")
    state_days: int = _parameter(0, "StateDays", "--state-days", low=0, high=30)
    concurrency: int = _parameter(0, "Concurrency", "--concurrency", low=0, high=1000)
    snap_start: bool = _parameter(False, "SnapStart", "--snap-start")
    budget_dollars: int = _parameter(0, "BudgetDollars", "--budget", low=0, high=1_000_000)
    budget_email: str = _parameter("", "BudgetEmail", "--budget-email")

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise OptionRefused(
                f"--name is {self.name!r}, but must be 2 to 40 lower-case letters, digits and "
                "hyphens, the first a letter."
            )
        for one in fields(self):
            low, high = one.metadata.get("low"), one.metadata.get("high")
            value = getattr(self, one.name)
            if low is not None and not low <= value <= high:
                raise OptionRefused(
                    f"{one.metadata['option']} is {value}, but must be from {low} to {high}."
                )
        if self.architecture not in ("x86_64", "arm64"):
            raise OptionRefused(
                f"--architecture is {self.architecture!r}, but must be x86_64 or arm64."
            )
        if self.log_days not in LOG_DAYS:
            raise OptionRefused(
                f"--log-days is {self.log_days}, but must be one of {', '.join(map(str, LOG_DAYS))}"
                "."
            )
        if bool(self.budget_dollars) != bool(self.budget_email):
            raise OptionRefused(
                "A budget alarm needs both --budget (US dollars a month) and --budget-email."
            )
        if self.budget_email and not _EMAIL.fullmatch(self.budget_email):
            raise OptionRefused(f"--budget-email is {self.budget_email!r}, which is no address.")

    @classmethod
    def choose(
        cls, name: str, given: Mapping[str, Any], parameters: Mapping[str, str] | None = None
    ) -> Self:
        """What the person gave, then what the stack has, then the defaults.

        `given` holds None where nothing was said; `parameters` are those of the stack, if any.
        """
        kept: dict[str, Any] = {}
        for one in _parameters():
            text = (parameters or {}).get(one.metadata["parameter"])
            if text is not None:
                kept[one.name] = _read(text, type(one.default))
        said = {key: value for key, value in given.items() if value is not None}
        if said.get("budget_dollars") == 0:
            said["budget_email"] = ""
        return cls(name=name, **(kept | said))

    def parameters(self, image_uri: str) -> dict[str, str]:
        """The stack's parameters."""
        values = {
            one.metadata["parameter"]: _write(getattr(self, one.name)) for one in _parameters()
        }
        return {"ImageUri": image_uri, **values}

    def conditions(self) -> dict[str, bool]:
        """The template's conditions, worked out here so that a plan needs no AWS."""
        return {
            "KeepsWarm": self.keep_warm_minutes > 0,
            "SharesState": self.state_days > 0,
            "Snaps": self.snap_start,
            "Budgets": self.budget_dollars > 0,
        }

    def with_model(self, name: str) -> Self:
        """The same, for another model."""
        return replace(self, model_name=name)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def own_architecture() -> str:
    """This machine's, in Lambda's words."""
    return "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"


def _parameters() -> list[Any]:
    return [one for one in fields(DeploySettings) if "parameter" in one.metadata]


def _read(text: str, kind: type[Any]) -> Any:
    return text == "true" if kind is bool else kind(text)


def _write(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
