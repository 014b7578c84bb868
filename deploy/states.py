"""The bucket in which environments share conversation states."""

from __future__ import annotations

from deploy.aws import Aws
from deploy.errors import AwsRefused
from deploy.stack import Stack


def empty_bucket(aws: Aws, stack: Stack) -> int:
    """Delete what it holds, without which CloudFormation cannot delete it; gives how many."""
    outputs = stack.describe_ours().get("Outputs", ())
    bucket = next((o["OutputValue"] for o in outputs if o["OutputKey"] == "StateBucket"), "")
    if not bucket:
        return 0
    count = 0
    try:
        for page in aws.pages("s3", "list_objects_v2", Bucket=bucket):
            keys = [{"Key": one["Key"]} for one in page.get("Contents", ())]
            if keys:
                aws("s3", "delete_objects", Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
                count += len(keys)
    except AwsRefused as error:
        if error.code != "NoSuchBucket":
            raise
    return count
