"""How many CPUs this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path


def cpus_given(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs by affinity, lowered to the cgroup's quota, at least 1.

    More threads than CPUs given make every barrier of a decoding step wait for the scheduler, and
    in a container `os.cpu_count()` tells of the host. Reads cgroup v2 (`cpu.max`: quota and period
    in microseconds) and v1 (`cpu/cpu.cfs_quota_us`).
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        micros, window = int(quota), int(period)
    except ValueError:  # "max": no quota
        return None
    return micros / window if micros > 0 and window > 0 else None
