"""An answer that was cut off."""

from __future__ import annotations

from farthing.routing.checks.check import Answered
from farthing.routing.checks.reading import choices_of
from farthing.settings import TruncatedCheckSettings


class Truncated:
    """Ended by the token limit or by a content filter (`finish_reason` `length`, `content_filter`).

    Where the limit is the one that the caller set, or that the mode sets for all models, no other model would say more in so few tokens:
    that passes unless `own_limit` says otherwise.
    """

    def __init__(self, settings: TruncatedCheckSettings) -> None:
        self._own_limit_passes = settings.own_limit == "pass"

    async def judge(self, answered: Answered) -> str | None:
        """See `Check`."""
        if not answered.whole:
            return None
        for said in choices_of(answered.body):
            if said.finish == "content_filter":
                return "cut off by a content filter"
            if said.finish == "length" and not (self._own_limit_passes and _at_own_limit(answered)):
                return "cut off by the token limit"
        return None


def _at_own_limit(answered: Answered) -> bool:
    """Whether the answer is as long as the caller or the mode allows. Where nobody counted its tokens, a limit is taken for the reason."""
    request = answered.request
    wishes = [_count(request.body.get(name)) for name in ("max_completion_tokens", "max_tokens")]
    wishes.append(request.mode.max_tokens)
    limits = [wish for wish in wishes if wish is not None]
    if not limits:
        return False
    usage, choices = answered.body.get("usage"), answered.body.get("choices")
    used = _count(usage.get("completion_tokens")) if isinstance(usage, dict) else None
    several = isinstance(choices, list) and len(choices) > 1  # their tokens are counted together
    return used is None or used >= min(limits) or several


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
