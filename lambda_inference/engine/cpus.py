"""How many CPUs this process may really use."""

from __future__ import annotations

from lambda_inference import _native


def cpus_given() -> int:
    """CPUs by affinity, lowered to the cgroup's quota or to Lambda's share, at least 1.

    More threads than CPUs given make every barrier of a decoding step wait for the scheduler, and
    in a container `os.cpu_count()` tells of the host. The rule is the engine's
    (native/cpu_limit.h), so that whatever runs beside it counts alike.
    """
    return _native.cpu_limit()
