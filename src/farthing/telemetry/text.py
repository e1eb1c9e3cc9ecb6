"""Counters in Prometheus' text format.

A series is a set of labels and a row of whole numbers, its cells. An instrument says which cells make which metric.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from farthing.telemetry.files import Labels, Reading

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Series = Collection[tuple[Labels, list[int]]]


def width(bounds: tuple[int, ...]) -> int:
    """The cells of a histogram: its sum, then one count per bucket, the open one last."""
    return len(bounds) + 2


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """A metric: which cells it reads and which labels tell its points apart.

    `parts` are (fixed attributes, first cell). `bounds` (a histogram's) and sums are whole numbers; divided by `scale` they are in `unit`.
    """

    name: str
    unit: str
    help: str
    attributes: tuple[tuple[str, int], ...] = ()
    parts: tuple[tuple[tuple[tuple[str, str], ...], int], ...]
    bounds: tuple[int, ...] = ()
    scale: int = 1


def points(instrument: Instrument, series: Series) -> list[tuple[dict[str, str], list[int]]]:
    """The points of a metric: attributes, and its cells summed over the labels that the metric does not show. Empty points are left out."""
    cells_each = width(instrument.bounds) if instrument.bounds else 1
    sums: dict[tuple[str, ...], list[int]] = {}
    for number, (_, at) in enumerate(instrument.parts):
        for labels, cells in series:
            block = cells[at : at + cells_each]
            if any(block):
                values = (str(number), *(labels[position] for _, position in instrument.attributes))
                known = sums.get(values)
                sums[values] = block if known is None else [a + b for a, b in zip(known, block, strict=True)]
    if not sums and not instrument.attributes and not instrument.bounds:
        sums = {("0",): [0]}  # a counter without labels exists from the start
    names = [name for name, _ in instrument.attributes]
    return [
        ({**dict(zip(names, values[1:], strict=True)), **dict(instrument.parts[int(values[0])][0])}, cells)
        for values, cells in sums.items()
    ]


def prometheus_name(name: str, unit: str) -> str:
    """A metric's name by OpenTelemetry's rules for Prometheus: dots to underscores, units spelt out, annotations left out."""
    spelt = {"s": "seconds", "By": "bytes", "1": "ratio"}.get(unit, "")
    flat = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    return flat if not spelt or flat.endswith(f"_{spelt}") else f"{flat}_{spelt}"


def text(instruments: Sequence[Instrument], series: Series, readings: Sequence[Reading]) -> bytes:
    """Everything in Prometheus' text format."""
    from prometheus_client import generate_latest  # noqa: PLC0415  # 30 ms that a worker pays only when it is scraped
    from prometheus_client.registry import Collector  # noqa: PLC0415  # the same

    class Collected(Collector):
        def collect(self) -> Iterator[Metric]:
            for instrument in instruments:
                yield _family(instrument, points(instrument, series))
            yield from _reading_families(readings)

    return generate_latest(Collected())


def _family(instrument: Instrument, found: list[tuple[dict[str, str], list[int]]]) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily  # noqa: PLC0415  # as above

    name = prometheus_name(instrument.name, instrument.unit)
    labels = [*(label for label, _ in instrument.attributes), *(label for label, _ in instrument.parts[0][0])]
    shown = [prometheus_name(label, "") for label in labels]
    if not instrument.bounds:
        counter = CounterMetricFamily(name, instrument.help, labels=shown)
        for attributes, (value,) in found:
            counter.add_metric([attributes[label] for label in labels], value)
        return counter
    histogram = HistogramMetricFamily(name, instrument.help, labels=shown)
    edges = [*(str(bound / instrument.scale) for bound in instrument.bounds), "+Inf"]
    for attributes, (total, *counts) in found:
        so_far = 0
        buckets: list[tuple[str, float]] = []
        for edge, count in zip(edges, counts, strict=True):
            so_far += count
            buckets.append((edge, so_far))
        histogram.add_metric([attributes[label] for label in labels], buckets, total / instrument.scale)
    return histogram


def _reading_families(readings: Sequence[Reading]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415  # as above

    same_name: dict[str, list[Reading]] = {}
    for reading in readings:
        same_name.setdefault(prometheus_name(reading.name, reading.unit), []).append(reading)
    for name, group in same_name.items():
        labels = sorted({label for reading in group for label in reading.attributes})
        kind = CounterMetricFamily if group[0].kind == "counter" else GaugeMetricFamily
        family = kind(name, group[0].help, labels=[prometheus_name(label, "") for label in labels])
        for reading in group:
            family.add_metric([reading.attributes.get(label, "") for label in labels], reading.value)
        yield family
