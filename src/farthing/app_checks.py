"""From the settings to checks, with the processes of validators. Part of the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from farthing.errors import SettingsError
from farthing.routing.checks.check import Check
from farthing.routing.checks.compile import KINDS, CheckDeps, checks_of_request, compile_checks
from farthing.routing.checks.judge import Ask
from farthing.routing.checks.placed import CannotTell, Undecided
from farthing.routing.checks.validator import ValidatorProcess, launch
from farthing.settings import AnyCheckSettings, Settings, ValidatorCheckSettings
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics


class Checks:
    """Makes checks. `ask` puts a question to a judge. Validators that name the same function share its process."""

    def __init__(self, ask: Ask) -> None:
        self._undecided = Undecided(KINDS)
        self._processes: dict[tuple[str, int], ValidatorProcess] = {}
        self._deps = CheckDeps(undecided=self._undecided, ask=ask, process=self._process)

    def of_settings(self, settings: Sequence[AnyCheckSettings]) -> tuple[Check, ...]:
        """The checks of a cascade."""
        return compile_checks(settings, self._deps)

    def of_request(self, given: Any) -> tuple[Check, ...]:
        """The checks that a request asks for itself. Raises `InvalidRequest`."""
        return checks_of_request(given, self._undecided)

    def _process(self, entry_point: str, memory_mb: int) -> ValidatorProcess:
        key = (entry_point, memory_mb)
        if key not in self._processes:
            self._processes[key] = ValidatorProcess(entry_point, memory_mb)
        return self._processes[key]

    def start(self) -> None:
        """Begin to load the validators."""
        for process in self._processes.values():
            process.start()

    async def aclose(self) -> None:
        """End their processes."""
        await asyncio.gather(*(process.close() for process in self._processes.values()))

    def register(self, metrics: Metrics) -> None:
        """Show how often checks could not tell."""
        for kind in self._undecided.counts:
            count = partial(self._undecided.counts.__getitem__, kind)
            metrics.counter(names.CHECKS_UNDECIDED, "Answers of which a check could not tell.", count, attributes={names.CHECK: kind})


def check_validators(settings: Settings) -> None:
    """See that the functions of all validators can be loaded, each in a process of its own. Raises `SettingsError`."""
    if _validators(settings):
        asyncio.run(load_validators(settings))


async def load_validators(settings: Settings) -> None:
    """`check_validators` where an event loop runs."""
    for where, check in _validators(settings):
        try:
            running = await launch(check.entry_point, check.memory_mb)
        except CannotTell as why:
            raise SettingsError(f"{where}: {check.entry_point} cannot be loaded: {why}") from None
        await running.close()


def _validators(settings: Settings) -> list[tuple[str, ValidatorCheckSettings]]:
    """All of them, each with its place."""
    return [
        (f"routing.routers.{name}.cascade.checks.{at}.entry_point", check)
        for name, router in settings.routing.routers.items()
        for at, check in enumerate(router.cascade.checks if router.cascade else ())
        if isinstance(check, ValidatorCheckSettings)
    ]
