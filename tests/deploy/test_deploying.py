"""`friend deploy`, `status`, `warm` and `destroy`, in an account on loopback."""

from __future__ import annotations

import asyncio
import json
import platform
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from deploy.aws import Aws
from deploy.errors import AwsRefused, DeployError
from friend.cli import app
from tests.deploy.conftest import KEYS, Cloud, Podman
from tests.fakes.model import FakeModel


async def run(*words: str) -> Result:
    """The command in a thread, since the function answers from this one's event loop."""
    return await asyncio.to_thread(CliRunner().invoke, app, words)


async def succeed(*words: str) -> Any:
    result = await run(*words, "--json")
    assert result.exit_code == 0, (result.stderr, result.exception)
    return json.loads(result.stdout)


async def fail(*words: str) -> DeployError:
    result = await run(*words)
    assert isinstance(result.exception, DeployError), (result.output, result.exception)
    return result.exception


def deploying(checkout: Path, *words: str) -> tuple[str, ...]:
    return ("deploy", "--source", str(checkout), "--tool", "podman", *words)


async def test_an_empty_account_becomes_a_url_that_answers(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    function.reply_with("hi there")

    done = await succeed(*deploying(checkout))

    assert done["url"] == f"{function.root_url}/"
    assert done["changed"] is True
    assert done["smoke"]["text"] == "hi there"
    assert [words[0] for words in podman.asked()] == ["build", "push"]
    running = aws("lambda", "get_function", FunctionName="friend")
    assert running["Configuration"]["MemorySize"] == 1769
    assert running["Code"]["ImageUri"].endswith(f"/friend@{done['image']['digest']}")
    groups = aws("logs", "describe_log_groups")["logGroups"]
    assert {g["logGroupName"]: g.get("retentionInDays") for g in groups} == {
        "/aws/lambda/friend": 14
    }


async def test_the_second_run_changes_nothing(
    function: FakeModel, podman: Podman, checkout: Path
) -> None:
    first = await succeed(*deploying(checkout))
    second = await succeed(*deploying(checkout))

    assert second["changed"] is False
    assert second["changes"] == []
    assert second["image"]["digest"] == first["image"]["digest"]
    assert podman.runs("build") == podman.runs("push") == 1


async def test_the_machines_own_architecture_is_built_until_another_is_named(
    function: FakeModel, podman: Podman, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert (await succeed(*deploying(checkout)))["settings"]["architecture"] == "arm64"
    assert "linux/arm64" in podman.asked()[0]
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert (await succeed(*deploying(checkout)))["changed"] is False
    done = await succeed(*deploying(checkout, "--architecture", "x86_64"))
    assert done["settings"]["architecture"] == "x86_64"
    assert "linux/amd64" in podman.asked()[2]


async def test_what_is_not_said_again_stays(
    function: FakeModel, podman: Podman, checkout: Path
) -> None:
    await succeed(*deploying(checkout, "--memory", "3008", "--log-days", "30"))
    done = await succeed(*deploying(checkout, "--keep-warm", "0"))

    settings = done["settings"]
    assert (settings["memory_mb"], settings["log_days"], settings["keep_warm_minutes"]) == (
        3008,
        30,
        0,
    )
    assert podman.runs("build") == 1


async def test_changed_sources_are_built_and_the_old_image_gives_up_its_tag(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    first = await succeed(*deploying(checkout))
    (checkout / "lambda_inference/model.py").write_text("answer = 43\n")
    second = await succeed(*deploying(checkout))

    assert second["image"]["digest"] != first["image"]["digest"]
    assert podman.runs("push") == 2
    found = aws(
        "ecr", "describe_images", repositoryName="friend", imageIds=[{"imageTag": "deployed"}]
    )
    assert found["imageDetails"][0]["imageDigest"] == second["image"]["digest"]


async def test_the_registrys_password_is_in_a_private_file_and_on_no_command_line(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    await succeed(*deploying(checkout))

    push = next(words for words in podman.asked() if words[0] == "push")
    token = aws("ecr", "get_authorization_token")["authorizationData"][0]["authorizationToken"]
    login = json.loads(push[-1])["auths"]
    assert [one["auth"] for one in login.values()] == [token]
    assert next(iter(login)).startswith("123456789012.dkr.ecr.")
    assert token not in " ".join(push[:-1])
    assert not Path(push[push.index("--authfile") + 1]).exists()


async def test_a_build_that_fails_says_where_and_the_next_run_goes_on(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    podman.broken.touch()
    error = await fail(*deploying(checkout))

    assert error.step == "Image"
    assert "no space left on device" in str(error)
    assert "the same command goes on from here" in str(error)
    assert aws("ecr", "describe_repositories", repositoryNames=["friend"])["repositories"]

    podman.broken.unlink()
    assert (await succeed(*deploying(checkout)))["smoke"] is not None


async def test_a_model_that_is_silent_fails_the_smoke_call_only(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    function.faults.status(503, times=9)
    error = await fail(*deploying(checkout))
    assert error.step == "Smoke call"
    assert aws("lambda", "get_function", FunctionName="friend")

    function.faults.clear()
    assert (await succeed(*deploying(checkout)))["changed"] is False


async def test_permissions_that_are_not_yet_known_everywhere_are_waited_for(
    function: FakeModel, podman: Podman, checkout: Path
) -> None:
    function.faults.status(403, times=2)
    assert (await succeed(*deploying(checkout)))["smoke"] is not None


async def test_a_stack_of_somebody_else_is_left_alone(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    template = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    aws("cloudformation", "create_stack", StackName="friend", TemplateBody=template)

    for command in (deploying(checkout), ("destroy", "--yes")):
        assert "friend did not make" in str(await fail(*command))
    stacks = aws("cloudformation", "describe_stacks", StackName="friend")["Stacks"]
    assert stacks[0]["StackStatus"] == "CREATE_COMPLETE"


async def test_a_repository_of_somebody_else_is_left_alone(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    aws("ecr", "create_repository", repositoryName="friend")
    for command in (deploying(checkout), ("destroy", "--yes")):
        assert "friend did not make" in str(await fail(*command))
    assert aws("ecr", "describe_repositories", repositoryNames=["friend"])["repositories"]


async def test_a_model_named_once_is_not_replaced_in_silence(
    function: FakeModel, podman: Podman, checkout: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "big.gguf"
    weights.write_bytes(b"GGUF big")
    done = await succeed(*deploying(checkout, "--model", str(weights)))
    assert done["settings"]["model_name"] == "big"
    build = podman.asked()[0]
    assert "MODEL_FILE=.cache/image/model/big.gguf" in build
    assert (checkout / ".cache/image/model/big.gguf").read_bytes() == b"GGUF big"

    assert "--model pocket" in str(await fail(*deploying(checkout)))
    back = await succeed(*deploying(checkout, "--model", "pocket"))
    assert back["settings"]["model_name"] == "pocket"


async def test_the_url_goes_into_env_on_request(
    function: FakeModel, podman: Podman, checkout: Path
) -> None:
    Path(".env").write_text("DISCORD_TOKEN=abc\nFRIEND_MODEL_URL=http://old\n")
    result = await run(*deploying(checkout, "--write-env"))
    assert result.exit_code == 0, result.output
    assert Path(".env").read_text() == (
        f"DISCORD_TOKEN=abc\nFRIEND_MODEL_URL={function.root_url}/\n"
    )
    assert "it was http://old" in result.stderr


async def test_a_dry_run_shows_the_changes_and_makes_none(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    plan = await succeed(*deploying(checkout, "--dry-run"))
    assert plan["account"] == "123456789012"
    assert {change["action"] for change in plan["changes"]} == {"Add"}
    assert aws("cloudformation", "describe_stacks")["Stacks"] == []
    assert aws("ecr", "describe_repositories")["repositories"] == []
    assert podman.asked() == []

    await succeed(*deploying(checkout))
    assert (await succeed(*deploying(checkout, "--dry-run")))["changes"] == []
    plan = await succeed(*deploying(checkout, "--dry-run", "--memory", "2048"))
    assert plan["image_built"] is True
    assert plan["image_bytes"] > 0
    assert plan["changes"]
    assert (
        aws("lambda", "get_function", FunctionName="friend")["Configuration"]["MemorySize"] == 1769
    )


async def test_destroy_removes_all_and_can_be_repeated(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    done = await succeed(*deploying(checkout, "--state-days", "2"))
    assert done["settings"]["state_days"] == 2
    bucket = aws("s3", "list_buckets")["Buckets"][0]["Name"]
    aws("s3", "put_object", Bucket=bucket, Key="states/1", Body=b"x")

    gone = await succeed("destroy", "--yes")

    assert any("1 conversation states" in line for line in gone["removed"])
    assert any(".env" in line for line in gone["kept"])
    assert aws("s3", "list_buckets")["Buckets"] == []
    assert aws("ecr", "describe_repositories")["repositories"] == []
    assert aws("iam", "list_roles")["Roles"] == []
    assert aws("logs", "describe_log_groups")["logGroups"] == []
    with pytest.raises(AwsRefused):
        aws("lambda", "get_function", FunctionName="friend")
    assert (await succeed("destroy", "--yes"))["removed"] == []


async def test_people_read_sentences(
    function: FakeModel, podman: Podman, checkout: Path, cloud: Cloud
) -> None:
    done = await run(*deploying(checkout))
    assert done.stdout == f"{function.root_url}/\n"
    for part in ("✓ Account", "✓ Smoke call", "--write-env", "friend-Caller"):
        assert part in done.stderr
    assert "Nothing had to be changed." in (await run(*deploying(checkout))).stderr

    told = (await run("status")).stdout
    for part in ("friend in eu-west-1: Active", "no (last call", "0.0% of the free tier", "41 MB"):
        assert part in told
    cloud.lambda_says({"warm": True, "model": "ready"})
    assert "was awake already" in (await run("warm")).stdout
    gone = (await run("destroy", "--yes")).stdout
    assert gone.index("Removed:") < gone.index("the stack friend") < gone.index("Kept:")


async def test_destroy_asks_first(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    await succeed(*deploying(checkout))
    result = await asyncio.to_thread(CliRunner().invoke, app, ["destroy"], input="n\n")
    assert result.exit_code == 1
    assert "account 123456789012, eu-west-1" in result.output
    assert aws("lambda", "get_function", FunctionName="friend")


async def test_a_bucket_no_longer_wanted_is_emptied_before_it_goes(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    await succeed(*deploying(checkout, "--state-days", "2"))
    bucket = aws("s3", "list_buckets")["Buckets"][0]["Name"]
    aws("s3", "put_object", Bucket=bucket, Key="states/1", Body=b"x")

    await succeed(*deploying(checkout, "--state-days", "0"))
    # CloudFormation then deletes it; moto's forgets to.
    assert aws("s3", "list_objects_v2", Bucket=bucket)["KeyCount"] == 0


async def test_status_and_warm_without_a_function_say_so(cloud: Cloud) -> None:
    for command in ("status", "warm"):
        assert "`friend deploy` makes one" in str(await fail(command))


async def test_warm_says_how_it_found_the_function(
    function: FakeModel, podman: Podman, checkout: Path, cloud: Cloud
) -> None:
    await succeed(*deploying(checkout))
    cloud.lambda_says({"statusCode": 200, "warm": True, "model": "ready"}, {"message": "?"})
    found = await succeed("warm")
    assert found["model"] == "ready"
    assert "does not know the warm ping" in str(await fail("warm"))


async def test_reserving_more_than_the_account_has_is_refused_before_anything_is_made(
    function: FakeModel, podman: Podman, checkout: Path, aws: Aws
) -> None:
    error = await fail(*deploying(checkout, "--concurrency", "950"))
    assert error.step == "Account"
    assert "--concurrency" in str(error)
    assert aws("ecr", "describe_repositories")["repositories"] == []


async def test_credentials_that_end_in_a_refusal_are_explained(
    cloud: Cloud, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert "--region eu-central-1" in str(await fail(*deploying(checkout)))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    error = await fail(*deploying(checkout, "--region", KEYS.region))
    assert "aws configure" in str(error)
