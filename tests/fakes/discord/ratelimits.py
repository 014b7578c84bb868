"""Per-route buckets and their headers.

https://discord.com/developers/docs/topics/rate-limits
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rule:
    """``limit`` requests in ``per`` seconds."""

    limit: int
    per: float


@dataclass
class _Window:
    ends: float
    used: int = 0


@dataclass
class Buckets:
    """Counts requests by route and major parameter.

    The default is far above what a test sends; ``rules`` sets a route's own limit, keyed by
    method and route template, e.g. ``("POST", "/channels/{channel_id}/messages")``.
    """

    default: Rule = Rule(200, 1.0)
    rules: dict[tuple[str, str], Rule] = field(default_factory=dict)
    exceeded: int = 0
    _windows: dict[tuple[str, str, str], _Window] = field(default_factory=dict)

    def take(self, method: str, route: str, major: str) -> tuple[dict[str, str], float | None]:
        """Headers for this request, and the seconds to wait when it is over the limit."""
        rule = self.rules.get((method, route), self.default)
        now = time.monotonic()
        key = (method, route, major)
        window = self._windows.get(key)
        if window is None or window.ends <= now:
            window = self._windows[key] = _Window(now + rule.per)
        window.used += 1
        left = max(0, rule.limit - window.used)
        reset_after = window.ends - now
        headers = {
            "X-RateLimit-Limit": str(rule.limit),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Reset": f"{time.time() + reset_after:.3f}",
            "X-RateLimit-Reset-After": f"{reset_after:.3f}",
            "X-RateLimit-Bucket": hashlib.sha1(f"{method}{route}".encode()).hexdigest(),
        }
        if window.used > rule.limit:
            self.exceeded += 1
            return headers, reset_after
        return headers, None
