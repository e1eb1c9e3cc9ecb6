"""`farthing simulate`: what a spike would cost, without a running installation and without calling anybody."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Protocol

import typer
from pydantic import ValidationError

from farthing.app_simulation import POOL, Simulator
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings, settings_path
from farthing.cli.rows import read_rows
from farthing.cli.tables import print_table
from farthing.economics.arrivals import Sample, invented, of_rows
from farthing.economics.example import example
from farthing.economics.plans import Crowd, Plan, crowd, drain, viral
from farthing.economics.plot import picture
from farthing.errors import InvalidRequest
from farthing.settings import ModesSettings, Settings
from farthing.types import Json

app = typer.Typer(help="What a spike would cost: the gateway's own decisions on virtual time.", no_args_is_help=True)

_SHARE_OF_FIRST = 0.9
_EXAMPLE = "example"
_SHAPE = "{turns: [the questions of a conversation]}"

FactorOption = Annotated[float, typer.Option(help="How many times the base load.", min=1.0, max=100_000.0)]
MinutesOption = Annotated[float, typer.Option(help="How long the load stays so high.", min=0.1, max=1440.0)]
CeilingOption = Annotated[float | None, typer.Option(help="Instead of the settings' modes.ceiling_usd.", min=0.01, max=1_000_000.0)]
BaseOption = Annotated[float, typer.Option(help="What the base load costs in the best mode.", min=0.001, max=100_000.0)]
ModelOption = Annotated[str | None, typer.Option(help="What all requests ask for; the first chat model of the settings unless named.")]
TrafficOption = Annotated[Path | None, typer.Option(help="Your own prompts: JSON lines {turns: [...]}, plain or gzipped.")]
SeedOption = Annotated[int, typer.Option(help="The same seed brings the same requests.", min=0, max=2**31)]
PlotOption = Annotated[Path | None, typer.Option(help="Write a picture (SVG) to this file.")]


class _Spike(Protocol):
    """What comes, and when. See `economics.plans`."""

    def __call__(self, base_per_s: float, factor: float, callers: Crowd, *, minutes: float, window_s: float) -> Plan: ...


def _command(spike: _Spike) -> Callable[..., None]:
    """The command that simulates a spike."""

    def command(
        factor: FactorOption = 100.0,
        minutes: MinutesOption = 30.0,
        ceiling_usd: CeilingOption = None,
        base_usd_per_hour: BaseOption = 2.0,
        model: ModelOption = None,
        traffic: TrafficOption = None,
        seed: SeedOption = 1,
        plot: PlotOption = None,
        settings: SettingsOption = None,
        data: DataOption = None,
        as_json: JsonOption = False,  # noqa: FBT002 - a flag
    ) -> None:
        read, which = _settings(settings, data, ceiling_usd)
        simulator = _simulator(read, model, traffic, seed)
        people = _crowd(read)
        base = simulator.per_second(base_usd_per_hour, people, seed)
        plan = spike(base, factor, people, minutes=minutes, window_s=read.modes.window_s)
        facts = {"settings": which, "factor": factor, "minutes": minutes, "base_usd_per_hour": base_usd_per_hour}
        _show({**facts, **simulator.run(plan, seed)}, simulator, plan, plot, as_json=as_json)

    return command


_VIRAL = "Everybody comes at once: the load is FACTOR times the base load for some MINUTES, then as before."
_DRAIN = "One key among 200 empties the wallet: it asks FACTOR times as much as all others together for some MINUTES."
app.command("viral", help=_VIRAL)(_command(viral))
app.command("drain", help=_DRAIN)(_command(drain))


def _settings(path: Path | None, data: Path | None, ceiling_usd: float | None) -> tuple[Settings, str]:
    """The settings, and which they are. An example, where none are named and those at hand have nothing to hold.

    Raises `InvalidRequest` when those that are named have no ceiling.
    """
    found = settings_path(path)
    if found is not None:
        read = _with_ceiling(read_settings(found, data), ceiling_usd)
        if path is not None or (read.modes.ceiling_usd is not None and read.models):
            if read.modes.ceiling_usd is None:
                raise InvalidRequest("there is no ceiling to hold: set modes.ceiling_usd, or name one with --ceiling-usd")
            return read, str(found)
    return _with_ceiling(Settings.model_validate(example()), ceiling_usd), _EXAMPLE


def _with_ceiling(read: Settings, ceiling_usd: float | None) -> Settings:
    if ceiling_usd is None:
        return read
    given = {**read.modes.model_dump(exclude_unset=True), "ceiling_usd": Decimal(str(ceiling_usd))}
    try:
        return read.model_copy(update={"modes": ModesSettings.model_validate(given)})
    except ValidationError as error:
        raise InvalidRequest(f"modes: {error.errors()[0]['msg']}") from None


def _simulator(settings: Settings, model: str | None, traffic: Path | None, seed: int) -> Simulator:
    chance = random.Random(f"{seed} conversations")  # noqa: S311 - a simulation
    samples: list[Sample] = (
        invented(chance, POOL) if traffic is None else of_rows(list(read_rows(traffic, _SHAPE, {"turns": ("turns",)})), chance, POOL)
    )
    return Simulator(settings, model or _first(settings), samples)


def _first(settings: Settings) -> str:
    chat = [name for name, model in settings.models.items() if model.kind == "chat"]
    if not chat:
        raise InvalidRequest("the settings have no chat model that costs anything: add one to models")
    return settings.generate.model or chat[0]


def _crowd(settings: Settings) -> Crowd:
    """Nine of ten requests come from the tier that goes down first."""
    first, *others = settings.modes.tiers or ["free", "pro"]
    return crowd({first: _SHARE_OF_FIRST, **{tier: (1 - _SHARE_OF_FIRST) / len(others) for tier in others}} if others else {first: 1.0})


def _show(found: Json, simulator: Simulator, plan: Plan, plot: Path | None, *, as_json: bool) -> None:
    if plot is not None:
        try:
            plot.write_text(picture(found, [mode.name for mode in simulator.ladder]), encoding="utf-8")
        except OSError as error:
            raise InvalidRequest(f"{plot} cannot be written: {error.strerror}") from None
    if as_json:
        print(json.dumps(found))
        return
    if found["settings"] == _EXAMPLE:
        print("On an example, because no settings are named that have models and a ceiling:")
    sides = [found["with"], found["without"]]
    rows = [
        ("worst rolling hour", *(f"${one['spend_usd_per_hour']:,.2f}" for one in sides)),
        (
            f"worst {found['window_s'] / 60:g} minutes (ceiling ${found['ceiling_usd']:,.2f})",
            *(f"${one['spend_usd_per_window']:,.2f}" for one in sides),
        ),
        ("spent in all", *(f"${one['spend_usd']:,.2f}" for one in sides)),
        ("requests", *(f"{one['requests']:,}" for one in sides)),
        ("refused", *(f"{one['refused']:,}" for one in sides)),
        *((f"answered by {name}", *(f"{one['by_model'].get(name, 0):,}" for one in sides)) for name in _models(sides)),
        ("mode changes", *(str(one["mode_changes"]) for one in sides)),
    ]
    print_table(("", "with modes", "without"), [rows], numbers_from=1)
    held = found["with"]
    by_tier = [(tier, *(f"{counts.get(mode.name, 0):,}" for mode in simulator.ladder)) for tier, counts in held["by_mode_by_tier"].items()]
    if "by_mode_of_key" in found:
        by_tier += [
            ("the one key", *(f"{counts.get(mode.name, 0):,}" for mode in simulator.ladder)) for counts in found["by_mode_of_key"].values()
        ]
    print_table(("requests of", *(mode.name for mode in simulator.ladder)), [by_tier], numbers_from=1)
    for change in held["changes"]:
        modes = ", ".join(f"{scope} {mode}" for scope, mode in change["modes"].items()) or simulator.ladder[0].name
        print(f"{change['at_s'] / 60:6.1f} min  {modes}" + (f": {change['reason']}" if change["reason"] else ""))
    print(_ending(held, plan))
    if plot is not None:
        sys.stdout.write(f"The picture is in {plot}.\n")


def _models(sides: list[Json]) -> list[str]:
    return list(dict.fromkeys(name for one in sides for name in one["by_model"]))


def _ending(held: Json, plan: Plan) -> str:
    if not held["changes"]:
        return "The ceiling was never in danger: no mode changed."
    noticed = f"The load rose after {plan.began_s / 60:g} min; the first worse mode held {held['noticed_s']:.1f} s later."
    back = held["back_in_deep_after_s"]
    return f"{noticed} " + (
        "By the end the best mode was not back for everybody." if back is None else f"{back / 60:.1f} min after it fell, all was as before."
    )
