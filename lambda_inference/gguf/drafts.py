"""How many drafts of a reply a model's makers recommend: a number in its file or folder."""

from __future__ import annotations

from lambda_inference.errors import ModelCorrupt

DRAFTS_KEY = "friend.drafts"
"""In a GGUF file; `drafts` in a folder's config.json."""
MOST_DRAFTS = 32


def drafts_from(value: object, source: str) -> int:
    """The number, 1 where there is none.

    Raises:
        ModelCorrupt: it is no number from 1 to MOST_DRAFTS.
    """
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_DRAFTS:
        raise ModelCorrupt(
            f"{source}: 'drafts' is {value!r}, not a number from 1 to {MOST_DRAFTS}."
        )
    return value
