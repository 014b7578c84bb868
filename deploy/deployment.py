"""`friend deploy`: preflight, repository, image, stack, smoke call.

Each step looks at what is there and does what is missing, so a run that failed half-way is gone on
with by the next one, and a run with nothing to do changes nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deploy import preflight
from deploy.aws import Aws
from deploy.containers import ContainerTool, Login
from deploy.cost import image_verdict
from deploy.errors import BuildFailed, OptionRefused
from deploy.progress import Progress
from deploy.repository import Image, Repository
from deploy.settings import SHIPPED_MODEL, DeploySettings, own_architecture
from deploy.smoke import Smoke, smoke
from deploy.sources import Sources
from deploy.stack import Change, Stack
from deploy.states import empty_bucket


@dataclass(frozen=True)
class Deployment:
    """What is there after a run. `changed` is False if the run found all as it should be."""

    url: str
    region: str
    settings: DeploySettings
    image: Image
    caller_policy: str
    changes: list[Change]
    changed: bool
    smoke: Smoke | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def deploy(
    aws: Aws,
    name: str,
    given: Mapping[str, Any],
    sources: Sources,
    tool: Callable[[], ContainerTool],
    progress: Progress,
    *,
    pause: float = 3.0,
    try_it: bool = True,
) -> Deployment:
    """Bring the account to what the options ask for.

    `given` are options by the settings' names, None where nothing was said. `tool` is asked for
    only if there is something to build. `pause`: seconds between looks at AWS.

    Raises:
        DeployError: with the step in which it happened.
    """
    stack, repository = Stack(aws, name, pause=pause), Repository(aws, name)
    with progress.step("Account"):
        account = preflight.look(aws)
        stack.settle(progress.now)
        parameters = stack.parameters()
        settings = choose(name, given, sources, parameters)
        reserved = int((parameters or {}).get("Concurrency", 0))
        preflight.check_concurrency(account, settings.concurrency, reserved)
        preflight.check_model(sources.model)
        progress.result(f"{account.number} in {account.region}, as {account.caller}")
    for warning in preflight.warnings(settings, sources.model):
        progress.warn(warning)
    with progress.step("Repository"):
        uri, changed = repository.ensure()
        progress.result(", ".join(changed) or "as it should be")
    with progress.step("Image"):
        image, pushed = _image(aws, repository, uri, sources, settings, tool, progress)
        progress.result(image_verdict(image.nbytes))
    with progress.step("Stack"):
        change_set, changes = stack.change_set(settings.parameters(f"{uri}@{image.digest}"))
        if change_set:
            if not settings.state_days:
                empty_bucket(aws, stack)
            stack.execute(change_set, progress.now)
        marked = repository.mark_deployed(image)
        outputs = stack.outputs()
        progress.result(f"{len(changes)} changes made" if change_set else "nothing to change")
    url = outputs["FunctionUrl"]
    tried = None
    if try_it:
        with progress.step("Smoke call"):
            tried = smoke(aws, url, pause=pause)
            progress.result(f"first word after {tried.first_word_seconds:.1f} s: {tried.text!r}")
    return Deployment(
        url=url,
        region=aws.region,
        settings=settings,
        image=image,
        caller_policy=outputs.get("CallerPolicy", ""),
        changes=changes,
        changed=bool(changed or pushed or change_set or marked),
        smoke=tried,
    )


def choose(
    name: str,
    given: Mapping[str, Any],
    sources: Sources,
    parameters: Mapping[str, str] | None,
) -> DeploySettings:
    """The settings of this run.

    Raises:
        OptionRefused: an option makes no sense, or the stack runs a model that this run, which
            names none, would silently replace by the shipped one.
    """
    running = (parameters or {}).get("ModelName", SHIPPED_MODEL)
    if given.get("model") is None and running != SHIPPED_MODEL:
        raise OptionRefused(
            f"The function runs the model {running}. Name its file again with --model to keep it, "
            f"or go back to the package's own with --model {SHIPPED_MODEL}."
        )
    choices = {key: value for key, value in given.items() if key != "model"}
    if parameters is None and choices.get("architecture") is None:
        choices["architecture"] = own_architecture()  # what this machine builds without qemu
    return DeploySettings.choose(name, choices, parameters).with_model(sources.model.name)


def _image(
    aws: Aws,
    repository: Repository,
    uri: str,
    sources: Sources,
    settings: DeploySettings,
    tool: Callable[[], ContainerTool],
    progress: Progress,
) -> tuple[Image, bool]:
    """The image of these sources in ECR, and whether it had to be pushed."""
    progress.now("reading the sources")
    tag = sources.fingerprint(settings.architecture)
    found = repository.image(tag)
    if found is not None:
        progress.result("in ECR already")
        return found, False
    builder, local = tool(), f"friend-lambda:{tag}"
    progress.now(f"building with {builder.name}")
    builder.build(
        sources.folder,
        local,
        architecture=settings.architecture,
        arguments=sources.arguments(),
        say=progress.now,
    )
    progress.now("pushing")
    builder.push(local, f"{uri}:{tag}", _login(aws, uri), progress.now)
    pushed = repository.image(tag)
    if pushed is None:
        raise BuildFailed(f"ECR does not show the image {tag} that {builder.name} pushed. Repeat.")
    progress.result(f"built and pushed with {builder.name}")
    return pushed, True


def _login(aws: Aws, uri: str) -> Login:
    found = aws("ecr", "get_authorization_token")["authorizationData"][0]
    user, _, password = base64.b64decode(found["authorizationToken"]).decode().partition(":")
    return Login(uri.split("/", maxsplit=1)[0], user, password)
