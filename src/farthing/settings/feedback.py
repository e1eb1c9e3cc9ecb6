"""The section on what people say of answers. See docs/feedback.md."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from farthing.settings.basic import Count, Section


class FeedbackSettings(Section):
    """`POST /v1/feedback`. The texts are sealed under `retention.encryption_key`, or the data folder's own key."""

    max_correction_bytes: Annotated[int, Field(ge=256, le=131_072)] = 32 * 1024
    """Of a correction, in UTF-8; a longer one is refused."""
    max_reason_bytes: Annotated[int, Field(ge=64, le=32_768)] = 4096
    """Of a reason, in UTF-8."""
    max_rows: Count = 1_000_000
    """That are kept of all tenants; beyond it the oldest go."""
    settle_s: Annotated[float, Field(ge=0, le=30)] = 3
    """How long feedback waits for the ledger to have its request, which takes a second or so from its end."""
    scrub_personal: bool = False
    """Whether mail addresses, telephone numbers and the like are taken out of corrections, as secrets always are."""
