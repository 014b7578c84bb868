"""Lambda's quotas, each with its unit; tests shrink them to be quick.

https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What no setting of a function changes.

    init_s: the init phase; one that takes longer runs again within the first invocation.
    snapshot_init_s: the same before a SnapStart snapshot.
    restore_s: from the restore to the first call of `next`.
    request_bytes: the event, as JSON.
    response_bytes: an answer that is not streamed.
    streamed_bytes: one that is.
    burst_bytes: of it, what is passed on at full speed; then `bytes_per_s`.
    shutdown_s: from SIGTERM to SIGKILL, for an environment with an extension.
    """

    init_s: float = 10.0
    snapshot_init_s: float = 130.0
    restore_s: float = 10.0
    request_bytes: int = 6 * MIB
    response_bytes: int = 6 * MIB
    streamed_bytes: int = 200 * MIB
    burst_bytes: int = 6 * MIB
    bytes_per_s: int = 2 * MIB
    shutdown_s: float = 0.5
