"""What Lambda and ECR bill, and what they give away each month.

List prices of us-east-1, from https://aws.amazon.com/lambda/pricing/ and
https://aws.amazon.com/ecr/pricing/; other regions differ a little.
"""

from __future__ import annotations

from dataclasses import dataclass

FREE_REQUESTS = 1_000_000
FREE_GB_SECONDS = 400_000.0
FREE_ECR_BYTES = 500_000_000  # in an account's first year
_DOLLARS_PER_REQUEST = 0.20 / 1_000_000
_DOLLARS_PER_GB_SECOND = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
_DOLLARS_PER_ECR_GB = 0.10
_MINUTES_A_MONTH = 365.25 / 12 * 24 * 60


@dataclass(frozen=True)
class Usage:
    """A month of one function: requests, and memory held times seconds run."""

    requests: int
    gb_seconds: float

    def dollars(self, architecture: str, *, free_tier: bool = True) -> float:
        """What Lambda bills for it, if nothing else in the account uses the free tier."""
        requests, gb_seconds = self.requests, self.gb_seconds
        if free_tier:
            requests = max(0, requests - FREE_REQUESTS)
            gb_seconds = max(0.0, gb_seconds - FREE_GB_SECONDS)
        return requests * _DOLLARS_PER_REQUEST + gb_seconds * _DOLLARS_PER_GB_SECOND[architecture]

    @property
    def free_tier_share(self) -> float:
        """How much of the free tier it takes: the larger of the two shares."""
        return max(self.requests / FREE_REQUESTS, self.gb_seconds / FREE_GB_SECONDS)


def gb_seconds(memory_mb: int, seconds: float) -> float:
    """Lambda's unit: GB of 1024 MB, times seconds."""
    return memory_mb / 1024 * seconds


def pings_a_month(minutes: int) -> int:
    """Warm pings at this interval; 0 minutes means none."""
    return round(_MINUTES_A_MONTH / minutes) if minutes else 0


def ecr_dollars(nbytes: int) -> float:
    """A month of storage, beyond the first year's free 500 MB."""
    return nbytes / 1_000_000_000 * _DOLLARS_PER_ECR_GB


def image_verdict(nbytes: int) -> str:
    """The image's size against ECR's free storage."""
    size = f"{nbytes / 1e6:.0f} MB"
    if nbytes <= FREE_ECR_BYTES:
        return f"{size}, within ECR's free 500 MB of the first year"
    return (
        f"{size}, over ECR's free 500 MB of the first year; about "
        f"${ecr_dollars(nbytes):.2f} a month"
    )
