"""How the function is: its state, its warmth, its last cold start, this month's cost."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.aws import Aws
from deploy.cost import Usage, gb_seconds
from deploy.repository import DEPLOYED, Repository
from deploy.stack import Stack

_RECENTLY = timedelta(minutes=10)
"""Lambda promises nothing about how long an idle environment lives; this long is usual."""
_REPORT = re.compile(r"(?:Init|Restore) Duration: ([\d.]+) ms")
_COLD = '?"Init Duration" ?"Restore Duration"'


@dataclass(frozen=True)
class ColdStart:
    """When an environment was last made, and how long that took."""

    at: str
    milliseconds: float


@dataclass(frozen=True)
class Status:
    """What `friend status` says. Times in UTC; `month` since its first day."""

    name: str
    region: str
    stack: str
    function: str
    url: str
    caller_policy: str
    memory_mb: int
    architecture: str
    image: str
    image_bytes: int
    last_call: str | None
    warm: bool
    cold_start: ColdStart | None
    cold_starts: int
    requests: int
    gb_seconds: float
    free_tier_share: float
    dollars: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def status(aws: Aws, stack: Stack, *, now: datetime | None = None) -> Status:
    """Ask CloudFormation, Lambda, the logs and the metrics; wakes nothing.

    Raises:
        NotDeployed: there is no stack.
    """
    now = now or datetime.now(UTC)
    outputs = stack.outputs()
    about = stack.describe() or {}
    function = aws("lambda", "get_function_configuration", FunctionName=stack.name)
    memory, architecture = int(function["MemorySize"]), function.get("Architectures", ["x86_64"])[0]
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    cold = _cold_starts(aws, stack.name, month)
    last = _last_call(aws, stack.name, now)
    seconds = _metric(aws, stack.name, "Duration", month, now) / 1000
    # The metric leaves out init, which is billed too.
    seconds += sum(start.milliseconds for start in cold) / 1000
    usage = Usage(
        int(_metric(aws, stack.name, "Invocations", month, now)), gb_seconds(memory, seconds)
    )
    image = Repository(aws, stack.name).image(DEPLOYED)
    return Status(
        name=stack.name,
        region=aws.region,
        stack=str(about.get("StackStatus", "")),
        function=str(function.get("State", "")),
        url=outputs.get("FunctionUrl", ""),
        caller_policy=outputs.get("CallerPolicy", ""),
        memory_mb=memory,
        architecture=architecture,
        image=image.digest if image else "",
        image_bytes=image.nbytes if image else 0,
        last_call=last.isoformat(timespec="seconds") if last else None,
        warm=last is not None and now - last < _RECENTLY,
        cold_start=cold[-1] if cold else None,
        cold_starts=len(cold),
        requests=usage.requests,
        gb_seconds=usage.gb_seconds,
        free_tier_share=usage.free_tier_share,
        dollars=usage.dollars(architecture),
    )


def _metric(aws: Aws, function: str, name: str, start: datetime, end: datetime) -> float:
    """The sum over a month, or 0."""
    answer = aws(
        "cloudwatch",
        "get_metric_statistics",
        Namespace="AWS/Lambda",
        MetricName=name,
        Dimensions=[{"Name": "FunctionName", "Value": function}],
        StartTime=start,
        EndTime=end,
        Period=86_400,
        Statistics=["Sum"],
    )
    return sum(float(point["Sum"]) for point in answer["Datapoints"])


def _cold_starts(aws: Aws, name: str, start: datetime) -> list[ColdStart]:
    """Those since `start`, the oldest first, from the report line of each first call."""
    found = []
    for event in _events(aws, name, start, _COLD):
        if told := _REPORT.search(str(event["message"])):
            at = _moment(event).isoformat(timespec="seconds")
            found.append(ColdStart(at, float(told.group(1))))
    return sorted(found, key=lambda one: one.at)


def _last_call(aws: Aws, name: str, now: datetime) -> datetime | None:
    """The last call of the past hour, warm pings included."""
    events = _events(aws, name, now - timedelta(hours=1), '"REPORT RequestId"')
    return max(map(_moment, events), default=None)


def _events(aws: Aws, name: str, start: datetime, pattern: str) -> list[dict[str, Any]]:
    return [
        event
        for page in aws.pages(
            "logs",
            "filter_log_events",
            logGroupName=f"/aws/lambda/{name}",
            startTime=int(start.timestamp() * 1000),
            filterPattern=pattern,
        )
        for event in page["events"]
    ]


def _moment(event: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
