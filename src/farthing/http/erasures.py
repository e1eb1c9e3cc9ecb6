"""What is said of an erasure: how many went where, what remains and why, and what is to be done when a place was away."""

from __future__ import annotations

from farthing.errors import Unavailable
from farthing.types import Json, Receipt

CACHES = ("cache_records", "cached_questions", "cached_answers")
"""Places whose things others of the tenant are served from, too."""

_OK = 200
_REMAINING = (
    "Ledger rows hold no text and stay, with the user's id: they are the account of what was spent.",
    (
        "Keys and budgets that were made for the user stay until they are revoked and deleted; so, for 7 days, does the note that the user "
        "was deleted, with his id: without it what is still on its way would be stored."
    ),
    (
        "What others were answered is theirs: a cached answer that was made for somebody else stays, also when the user asked the same. "
        "flush_cache=true on DELETE /admin/v1/tenants/{tenant}/users/{user}/data deletes all cached answers of the tenant."
    ),
    (
        "Providers of models have their own retention, and backups of the database are its operator's. PostgreSQL overwrites deleted rows "
        "when it vacuums, and its write-ahead log as it is recycled."
    ),
)


def erasure(receipt: Receipt) -> tuple[int, Json]:
    """Status and body. When a place was away: 503, OpenAI's error object and, beside it, what was done all the same."""
    away = [name for name, count in receipt.places.items() if count is None]
    said: Json = {
        "object": "farthing.erasure",
        "id": receipt.id,
        "tenant": receipt.tenant,
        "user": receipt.user,
        "at": receipt.at,
        "complete": receipt.complete,
        "deleted": receipt.places,
        "remaining": list(_REMAINING),
    }
    if not away:
        return _OK, said
    error = Unavailable(f"deleted in part: {', '.join(away)} could not be reached. Ask again: deleting twice does no harm.")
    status, fields = error.wire()
    return status, {**said, "error": fields}


def shown(receipt: Receipt) -> Json:
    """A receipt in a list."""
    return {"id": receipt.id, "at": receipt.at, "by": receipt.by, "complete": receipt.complete, "deleted": receipt.places}
