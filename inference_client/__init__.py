"""The only code that speaks HTTP to a model: any OpenAI-compatible chat-completions server.

Start at `InferenceClient`. Errors are drawn in `errors.py`, settings in `settings.py`.
"""

from .client import InferenceClient
from .errors import (
    BadAnswer,
    BreakerOpen,
    Busy,
    InferenceError,
    Phase,
    Refused,
    ServerFailed,
    TimedOut,
    Unreachable,
)
from .messages import ChatMessage, Health, Reply, Role, SamplingOptions, Timings, Usage
from .settings import (
    Auth,
    AwsCredentials,
    BearerAuth,
    ClientSettings,
    CredentialsProvider,
    NoAuth,
    SigV4Auth,
)
from .stream import ReplyStream

__all__ = [
    "Auth",
    "AwsCredentials",
    "BadAnswer",
    "BearerAuth",
    "BreakerOpen",
    "Busy",
    "ChatMessage",
    "ClientSettings",
    "CredentialsProvider",
    "Health",
    "InferenceClient",
    "InferenceError",
    "NoAuth",
    "Phase",
    "Refused",
    "Reply",
    "ReplyStream",
    "Role",
    "SamplingOptions",
    "ServerFailed",
    "SigV4Auth",
    "TimedOut",
    "Timings",
    "Unreachable",
    "Usage",
]
