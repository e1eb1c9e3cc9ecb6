"""Whether a request fits into a model's context, and which model it goes to when it does not.

By an estimate, which may be wrong both ways: one that is too high sends a request to a model with more room than it needed; one that is
too low is put right by the provider, whose own word (`UpstreamContextExceeded`) sends the request on along the same list.
"""

from __future__ import annotations

import msgspec

from farthing.pipeline.tokens import BYTES_PER_TOKEN, count_request
from farthing.routing.catalogue import Catalogue, Model
from farthing.routing.shaping import asked_output
from farthing.types import Json

_encode = msgspec.json.Encoder().encode
_DESCRIBED = ("tools", "functions", "response_format")


def needed_tokens(body: Json) -> int:
    """About how many tokens of context a request needs: what is sent, and the answer that it allows (nothing where it names no limit)."""
    described = sum(len(_encode(body[name])) for name in _DESCRIBED if body.get(name))
    return count_request(body) + -(-described // BYTES_PER_TOKEN) + (asked_output(body) or 0)


def fits(model: Model, body: Json) -> bool:
    """Whether it seems to fit. A model whose context is not known takes everything."""
    return model.context_tokens is None or needed_tokens(body) <= model.context_tokens


def context_plan(catalogue: Catalogue, name: str, body: Json) -> tuple[str, bool]:
    """The model to ask, and whether it is another one: the first of the model's context fallbacks that the request fits into.

    The model itself where it fits, and where it fits nowhere: then the provider has the last word.
    """
    model = catalogue.get(name)
    if not model.context_fallbacks or model.context_tokens is None:
        return name, False
    needed = needed_tokens(body)
    if needed <= model.context_tokens:
        return name, False
    for other in context_fallbacks(catalogue, name):
        room = catalogue.get(other).context_tokens
        if room is None or needed <= room:
            return other, True
    return name, False


def context_fallbacks(catalogue: Catalogue, name: str) -> list[str]:
    """Where to turn when the provider says that a request is too long for this model: its fallbacks for that, then theirs."""
    found: list[str] = []
    waiting = list(catalogue.get(name).context_fallbacks)
    while waiting:
        other = waiting.pop(0)
        if other != name and other not in found:
            found.append(other)
            waiting += catalogue.get(other).context_fallbacks
    return found
