"""Every error of the bot process.

FriendError                 anything friend can explain to a person
├── SettingsInvalid         a setting is missing or makes no sense
├── PlatformFailed          a platform refused to work with friend
│   ├── BadToken            the credentials are wrong
│   ├── MissingIntent       Discord: an intent is asked for but not enabled
│   └── MissingScope        Slack: a scope is not granted
├── DeliveryFailed          words could not be posted (`retryable` says whether to try later)
├── StoreFailed             the history could not be read or written
└── ServerNotStarted        the local model server did not come up
"""

from __future__ import annotations


class FriendError(Exception):
    """A failure with a sentence for a person: what happened, and what to do."""


class SettingsInvalid(FriendError):
    """A setting is missing or makes no sense."""


class PlatformFailed(FriendError):
    """A platform refused to work with friend."""


class BadToken(PlatformFailed):
    """The platform does not know the credentials."""


class MissingIntent(PlatformFailed):
    """Discord closed the gateway because an intent is not enabled."""


class MissingScope(PlatformFailed):
    """Slack refused a call for want of a scope."""


class DeliveryFailed(FriendError):
    """Words could not be posted.

    Attributes:
        retryable: whether the same words may get through later.
        words_refused: whether other words might get through now.
    """

    def __init__(self, message: str, *, retryable: bool, words_refused: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.words_refused = words_refused


class StoreFailed(FriendError):
    """The history could not be read or written."""


class ServerNotStarted(FriendError):
    """The local model server did not come up."""
