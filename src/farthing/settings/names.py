"""Names that settings give to each other."""

from __future__ import annotations

import difflib
import re

MODEL_NAME = re.compile(r"[A-Za-z0-9._:/@-]{1,128}")
"""What models and routers may be called."""


def must_be_one_of(where: str, name: str | None, names: set[str]) -> None:
    """Raise ValueError, with a proposal, when a name is not among those that there are."""
    if name not in names:
        msg = f"{where}: there is no {name!r}{nearest(str(name), names)}"
        raise ValueError(msg)


def nearest(name: str, names: set[str]) -> str:
    """The end of a complaint about a name: what was probably meant, or what there is."""
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(names)) or 'none'}"
