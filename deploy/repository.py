"""The ECR repository, and the images in it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from deploy.aws import Aws
from deploy.errors import AwsRefused, StackFailed

DEPLOYED = "deployed"
"""The tag of the image that the function runs, which no rule expires."""

# ECR never expires by a later rule an image that an earlier rule speaks of, so the first one
# protects what runs. Layers that images share are stored once.
_RULES = {
    "rules": [
        {
            "rulePriority": 1,
            "description": "Keep the image that the function runs.",
            "selection": {
                "tagStatus": "tagged",
                "tagPrefixList": [DEPLOYED],
                "countType": "imageCountMoreThan",
                "countNumber": 1,
            },
            "action": {"type": "expire"},
        },
        {
            "rulePriority": 2,
            "description": "Of the others keep the newest two.",
            "selection": {
                "tagStatus": "any",
                "countType": "imageCountMoreThan",
                "countNumber": 2,
            },
            "action": {"type": "expire"},
        },
    ]
}


@dataclass(frozen=True)
class Image:
    """An image in the repository; `nbytes` is its compressed size, which ECR bills."""

    digest: str
    nbytes: int
    tags: tuple[str, ...]


class Repository:
    """One repository, tagged as ours."""

    def __init__(self, aws: Aws, name: str) -> None:
        self._aws = aws
        self.name = name

    def uri(self) -> str | None:
        """Its address, or None if there is none yet."""
        try:
            found = self._aws("ecr", "describe_repositories", repositoryNames=[self.name])
        except AwsRefused as error:
            if error.code == "RepositoryNotFoundException":
                return None
            raise
        return str(found["repositories"][0]["repositoryUri"])

    def ensure(self) -> tuple[str, list[str]]:
        """Its address, and what had to be changed for it to be as it should."""
        changed: list[str] = []
        uri = self.uri()
        if uri is None:
            made = self._aws(
                "ecr",
                "create_repository",
                repositoryName=self.name,
                tags=[{"Key": "made-by", "Value": "friend"}],
                encryptionConfiguration={"encryptionType": "AES256"},
            )
            uri = str(made["repository"]["repositoryUri"])
            changed.append("repository made")
        else:
            self.check_ours()
        if self._rules() != _RULES:
            self._aws(
                "ecr",
                "put_lifecycle_policy",
                repositoryName=self.name,
                lifecyclePolicyText=json.dumps(_RULES),
            )
            changed.append("lifecycle rule set")
        return uri, changed

    def check_ours(self) -> None:
        """Raise StackFailed if somebody else made it."""
        found = self._aws("ecr", "describe_repositories", repositoryNames=[self.name])
        arn = found["repositories"][0]["repositoryArn"]
        tags = self._aws("ecr", "list_tags_for_resource", resourceArn=arn)["tags"]
        if {"Key": "made-by", "Value": "friend"} not in tags:
            raise StackFailed(
                f"There is an ECR repository {self.name} that friend did not make. Choose another "
                "name with --name."
            )

    def image(self, tag: str) -> Image | None:
        """The image of a tag, or None."""
        try:
            found = self._aws(
                "ecr",
                "describe_images",
                repositoryName=self.name,
                imageIds=[{"imageTag": tag}],
            )
        except AwsRefused as error:
            if error.code in ("ImageNotFoundException", "RepositoryNotFoundException"):
                return None
            raise
        about = found["imageDetails"][0]
        return Image(
            digest=str(about["imageDigest"]),
            nbytes=int(about.get("imageSizeInBytes", 0)),
            tags=tuple(about.get("imageTags", ())),
        )

    def mark_deployed(self, image: Image) -> bool:
        """Put the tag on what the function runs; False if it is there already."""
        if DEPLOYED in image.tags:
            return False
        found = self._aws(
            "ecr",
            "batch_get_image",
            repositoryName=self.name,
            imageIds=[{"imageDigest": image.digest}],
        )["images"][0]
        more = (
            {"imageManifestMediaType": kind}
            if (kind := found.get("imageManifestMediaType"))
            else {}
        )
        self._aws(
            "ecr",
            "put_image",
            repositoryName=self.name,
            imageManifest=found["imageManifest"],
            imageTag=DEPLOYED,
            **more,
        )
        return True

    def delete(self) -> bool:
        """Delete it with all images; False if there was none."""
        if self.uri() is None:
            return False
        self.check_ours()
        self._aws("ecr", "delete_repository", repositoryName=self.name, force=True)
        return True

    def _rules(self) -> object:
        try:
            found = self._aws("ecr", "get_lifecycle_policy", repositoryName=self.name)
        except AwsRefused as error:
            if error.code == "LifecyclePolicyNotFoundException":
                return None
            raise
        return json.loads(found["lifecyclePolicyText"])
