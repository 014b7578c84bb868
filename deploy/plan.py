"""`friend deploy --dry-run`: what a run would do, with AWS or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deploy import preflight
from deploy.aws import Aws
from deploy.cost import FREE_ECR_BYTES, FREE_REQUESTS, image_verdict, pings_a_month
from deploy.deployment import choose
from deploy.progress import Progress
from deploy.repository import Repository
from deploy.settings import DeploySettings
from deploy.sources import Sources
from deploy.stack import TEMPLATE, Change, Stack, planned

_NO_DIGEST = "sha256:" + "0" * 64
_NO_ACCOUNT = "000000000000"
_VCPU_MB = 1769


@dataclass(frozen=True)
class Plan:
    """What would be done. `account` is empty without AWS; `changes` are then a first run's.

    image_bytes: None until the image is in ECR; its size is known only then.
    """

    account: str
    region: str
    settings: DeploySettings
    parameters: dict[str, str]
    changes: list[Change]
    image_tag: str
    image_built: bool
    image_bytes: int | None
    model_bytes: int
    pings_a_month: int
    warnings: list[str]
    template: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def plan(
    aws: Aws | None,
    name: str,
    given: Mapping[str, Any],
    sources: Sources,
    *,
    region: str = "",
    pause: float = 3.0,
) -> Plan:
    """Work out the changes; with AWS by a change set, which is thrown away again.

    Raises:
        DeployError: an option makes no sense, or AWS refuses to be asked.
    """
    stack = Stack(aws, name, pause=pause) if aws else None
    known = stack.parameters() if stack else None
    settings = choose(name, given, sources, known)
    preflight.check_model(sources.model)
    tag = sources.fingerprint(settings.architecture)
    number, image = _NO_ACCOUNT, None
    if aws:
        account = preflight.look(aws)
        number, region = account.number, account.region
        reserved = int((known or {}).get("Concurrency", 0))
        preflight.check_concurrency(account, settings.concurrency, reserved)
        image = Repository(aws, name).image(tag)
    uri = f"{number}.dkr.ecr.{region or 'REGION'}.amazonaws.com/{name}"
    parameters = settings.parameters(f"{uri}@{image.digest if image else _NO_DIGEST}")
    changes = planned(settings.conditions())
    if stack and stack.can_plan():
        change_set, changes = stack.change_set(parameters)
        if change_set:
            stack.discard(change_set)
    return Plan(
        account=number if aws else "",
        region=region,
        settings=settings,
        parameters=parameters,
        changes=changes,
        image_tag=tag,
        image_built=image is not None,
        image_bytes=image.nbytes if image else None,
        model_bytes=sources.model.nbytes,
        pings_a_month=pings_a_month(settings.keep_warm_minutes),
        warnings=preflight.warnings(settings, sources.model),
        template=TEMPLATE.read_text(encoding="utf-8"),
    )


def show(found: Plan, progress: Progress) -> None:
    """The plan for a person."""
    where = f"account {found.account}, {found.region}" if found.account else "no AWS was asked"
    progress.say(f"Plan for the stack {found.settings.name} ({where})")
    for warning in found.warnings:
        progress.warn(warning)
    if found.image_built:
        progress.say(
            f"  Image    {found.image_tag} is in ECR: {image_verdict(found.image_bytes or 0)}"
        )
    else:
        progress.say(f"  Image    {found.image_tag} would be built and pushed")
    share = f"{found.model_bytes / FREE_ECR_BYTES:.0%}"
    progress.say(
        f"  Model    {found.settings.model_name}, {found.model_bytes / 1e6:.1f} MB, {share} of "
        "ECR's free 500 MB"
    )
    for line in _choices(found.settings):
        progress.say(line)
    for change in found.changes:
        note = " (replaced)" if change.replacement else ""
        progress.say(f"  {change.action:<8} {change.resource:<16} {change.kind}{note}")
    if not found.changes:
        progress.say("  Stack    nothing to change")


def _choices(settings: DeploySettings) -> list[str]:
    """What was chosen, in words."""
    start = "from a snapshot" if settings.snap_start else "no snapshot"
    most = f"at most {settings.concurrency} replies at once, reserved"
    pings = pings_a_month(settings.keep_warm_minutes)
    share = f"{pings / FREE_REQUESTS:.1%} of the free requests"
    each = f"one every {settings.keep_warm_minutes} min: {pings} a month, {share}"
    states = f"conversation states for {settings.state_days} days, in S3"
    budget = f"${settings.budget_dollars} a month; {settings.budget_email} is told at 80%"
    rows = {
        "Function": f"{settings.memory_mb} MB ({settings.memory_mb / _VCPU_MB:.1f} vCPU), "
        f"{settings.architecture}, {settings.timeout_seconds} s a reply, {start}",
        "Limit": most if settings.concurrency else "the concurrency of the account",
        "Pings": each if pings else "none",
        "Keeps": f"logs for {settings.log_days} days; "
        + (states if settings.state_days else "no conversation states"),
        "Budget": budget if settings.budget_dollars else "no alarm (--budget sets one)",
    }
    return [f"  {title:<8} {text}" for title, text in rows.items()]
