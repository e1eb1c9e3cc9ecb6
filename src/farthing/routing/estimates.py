"""What a request would cost with each model, and whether it fits into it: guesses, by about how many tokens it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from farthing.errors import InvalidRequest
from farthing.routing.catalogue import Catalogue
from farthing.routing.options import PARAM
from farthing.routing.reading import Reading
from farthing.routing.routers import Route
from farthing.types import Price, Usage, dollars

Cost = Callable[[Price, Usage], int]
"""Micro-dollars for the tokens at a price."""


class Estimates:
    """`assumed_output` is how many tokens an answer has whose request sets no limit."""

    def __init__(self, catalogue: Catalogue, cost: Cost, assumed_output: int) -> None:
        self._catalogue = catalogue
        self._cost = cost
        self._assumed_output = assumed_output

    def microusd(self, model: str, reading: Reading) -> int | None:
        """What it would cost with the model's first deployment; None when nobody knows its price."""
        price = self._catalogue.get(model).deployments[0].price
        if price.source == "none":
            return None
        return 0 if price.free else self._cost(price, Usage(input=reading.tokens, output=self._output(reading)))

    def _output(self, reading: Reading) -> int:
        limits = [reading.request.body.get(name) for name in ("max_completion_tokens", "max_tokens")]
        return next((limit for limit in limits if type(limit) is int and limit > 0), self._assumed_output)

    def candidates(self, route: Route, reading: Reading) -> list[str]:
        """The models that may answer, the weakest first. Raises `InvalidRequest` when the request leaves none."""
        options = route.options
        models = [model for model in route.router.models if options.models is None or model in options.models]
        most = options.max_microusd
        if most is None:
            return models
        costs = {model: self.microusd(model, reading) for model in models}
        affordable = [model for model, cost in costs.items() if cost is not None and cost <= most]
        if not affordable:
            known = {model: cost for model, cost in costs.items() if cost is not None}
            cheapest = min(known, key=known.__getitem__, default=None)
            hint = f"the cheapest, {cheapest}, at ${dollars(known[cheapest])}" if cheapest else "no candidate has a known price"
            raise InvalidRequest(f"{PARAM}.max_cost_usd: no candidate is estimated to cost so little; {hint}", param=PARAM)
        return affordable

    def fitting(self, models: Sequence[str], candidates: Sequence[str], reading: Reading) -> tuple[str, ...]:
        """Those of the models that the request fits into; when none, the first candidate that it does; when none, the models as they are.

        The provider has the last word: this is an estimate.
        """
        if all(self._catalogue.get(model).context_tokens is None for model in models):
            return tuple(models)
        fitting = tuple(model for model in models if self.fits(model, reading))
        if fitting:
            return fitting
        larger = next((model for model in candidates if self.fits(model, reading)), None)
        return tuple(models) if larger is None else (larger,)

    def fits(self, model: str, reading: Reading) -> bool:
        """Whether the request seems to fit into a model's context. One whose context is not known takes everything."""
        room = self._catalogue.get(model).context_tokens
        return room is None or reading.needed <= room
