"""What the sections are made of."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1)]
Usd = Annotated[Decimal, Field(ge=0, le=1_000_000)]


class Section(BaseModel):
    """A named part of the settings. A name that it does not have is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)  # the tree is built once, and not each section as well
