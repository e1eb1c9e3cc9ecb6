"""Cron expressions: five fields, or six with seconds as the last one; in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from farthing.errors import InvalidRequest
from farthing.lazily import Lazily

croniter = Lazily("croniter")
_FIELDS = re.compile(r"(?:(?![Rr]\b)[0-9A-Za-z*/,#-]+(?:\s+|$)){5,6}")
"""Not croniter's `R`, which is another time in each process."""


def checked(expression: str) -> str:
    """The expression, if it is one that will fire. Raises `InvalidRequest`."""
    if len(expression) > _MOST or not _FIELDS.fullmatch(expression.strip()) or not _fires(expression):
        raise InvalidRequest(
            f"{expression[:_MOST]!r} is no cron expression: minute, hour, day of the month, month, day of the week, "
            "such as `30 3 * * *` (each day at 3:30 UTC); a sixth field is for seconds"
        )
    return expression


def following(expression: str, after: datetime) -> datetime:
    """The first instant behind `after` at which it fires."""
    found = croniter.croniter(expression, after.astimezone(UTC)).get_next(datetime)
    assert isinstance(found, datetime)
    return found


def _fires(expression: str) -> bool:
    """Whether there is such a day: the 30th of February never comes."""
    try:
        following(expression, _SOME_DAY)
    except (ValueError, KeyError):  # what croniter's own errors are
        return False
    return True


_MOST = 128
_SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)
