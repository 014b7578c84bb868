"""Status from logs and metrics, and the deployer's policy against the calls really made."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import deploy as package
from deploy.aws import Aws
from deploy.containers import ContainerTool
from deploy.deployment import Deployment, deploy
from deploy.destroy import destroy
from deploy.plan import plan
from deploy.progress import Progress
from deploy.sources import find_sources
from deploy.stack import Stack
from deploy.status import status
from tests.deploy.conftest import Podman
from tests.fakes.model import FakeModel

NOW = datetime.now(UTC)
_SAME = {"ListObjectsV2": "ListBucket", "DeleteObjects": "DeleteObject", "Invoke": "InvokeFunction"}
_PREFIXES = {"monitoring": "cloudwatch"}


async def deployed(aws: Aws, checkout: Path, **given: Any) -> Deployment:
    def run() -> Deployment:
        return deploy(
            aws,
            "friend",
            given,
            find_sources(checkout, None),
            lambda: ContainerTool("podman"),
            Progress(),
            pause=0.01,
        )

    return await asyncio.to_thread(run)


def report(aws: Aws, when: datetime, text: str) -> None:
    stream = f"stream-{when.timestamp()}"
    where = {"logGroupName": "/aws/lambda/friend", "logStreamName": stream}
    aws("logs", "create_log_stream", **where)
    event = {"timestamp": int(when.timestamp() * 1000), "message": text}
    aws("logs", "put_log_events", **where, logEvents=[event])


def spent(aws: Aws, when: datetime, **metrics: float) -> None:
    aws(
        "cloudwatch",
        "put_metric_data",
        Namespace="AWS/Lambda",
        MetricData=[
            {
                "MetricName": name,
                "Dimensions": [{"Name": "FunctionName", "Value": "friend"}],
                "Timestamp": when,
                "Value": value,
            }
            for name, value in metrics.items()
        ],
    )


async def test_status_adds_up_the_month_and_finds_the_last_cold_start(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    done = await deployed(aws, checkout, memory_mb=2048)
    before = status(aws, Stack(aws, "friend"))
    assert (before.requests, before.warm, before.cold_start) == (0, False, None)

    # The 20th of this month, so that hours before it are of this month too.
    now = NOW.replace(day=20, hour=12)
    report(
        aws, now - timedelta(hours=3), "REPORT RequestId: 1 Duration: 9 ms Init Duration: 700.5 ms"
    )
    report(
        aws, now - timedelta(hours=2), "REPORT RequestId: 2 Duration: 9 ms Init Duration: 499.5 ms"
    )
    report(aws, now - timedelta(minutes=4), "REPORT RequestId: 3 Duration: 9 ms")
    spent(aws, now - timedelta(hours=2), Invocations=1000, Duration=98_800)

    found = status(aws, Stack(aws, "friend"), now=now)

    assert found.warm
    assert found.last_call == (now - timedelta(minutes=4)).isoformat(timespec="seconds")
    assert found.cold_start is not None
    assert (found.cold_start.milliseconds, found.cold_starts) == (499.5, 2)
    assert found.requests == 1000
    assert found.gb_seconds == (98.8 + 1.2) * 2
    assert found.free_tier_share == 0.001
    assert found.dollars == 0
    assert found.image == done.image.digest
    assert found.url == done.url

    later = status(aws, Stack(aws, "friend"), now=now + timedelta(hours=2))
    assert not later.warm
    assert later.last_call is None


async def test_the_deployers_policy_allows_every_call_that_is_made(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    made: set[str] = set()

    def note(model: Any, **_: Any) -> None:
        prefix = model.service_model.signing_name
        made.add(f"{_PREFIXES.get(prefix, prefix)}:{_SAME.get(model.name, model.name)}")

    aws.session.events.register("before-call", note)
    await asyncio.to_thread(plan, aws, "friend", {}, find_sources(checkout, None), pause=0.01)
    await deployed(aws, checkout, state_days=1)
    await deployed(aws, checkout)
    bucket = aws("s3", "list_buckets")["Buckets"][0]["Name"]
    aws("s3", "put_object", Bucket=bucket, Key="states/1", Body=b"x")
    status(aws, Stack(aws, "friend"))
    destroy(aws, "friend", Progress(), pause=0.01)

    made -= {"sts:GetCallerIdentity", "s3:ListBuckets", "s3:PutObject"}  # free; of this test
    policy = json.loads(
        (Path(package.__file__).parent / "deployer-policy.json").read_text(encoding="utf-8")
    )
    allowed: set[str] = set()
    for statement in policy["Statement"]:
        actions = statement["Action"]
        allowed |= {actions} if isinstance(actions, str) else set(actions)
    assert len(made) > 20
    assert {call for call in made if not any(fnmatchcase(call, one) for one in allowed)} == set()


def test_only_looking_is_allowed_everywhere() -> None:
    text = (Path(package.__file__).parent / "deployer-policy.json").read_text(encoding="utf-8")
    for statement in json.loads(text)["Statement"]:
        everywhere = statement["Resource"] == "*"
        assert everywhere == (statement["Sid"] == "Look")
        assert everywhere or "friend" in json.dumps(statement["Resource"])
