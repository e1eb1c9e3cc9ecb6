"""`farthing feedback …`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table

app = typer.Typer(help="What people say of answers.", no_args_is_help=True)
TenantOption = Annotated[str | None, typer.Option(help="Only of this tenant.")]
SinceOption = Annotated[str | None, typer.Option(help="An age (24h, 7d) or a time (2026-11-23T00:00:00Z); without it all there is.")]
CorrectedOption = Annotated[bool, typer.Option("--corrected", help="Only with a correction.")]


@app.command(name="list")
def list_feedback(
    tenant: TenantOption = None,
    since: SinceOption = None,
    corrected: CorrectedOption = False,  # noqa: FBT002 - a flag
    limit: Annotated[int, typer.Option(help="How many at most.")] = 50,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """List what was said, newest first."""
    query = _query(tenant, since, corrected=corrected, limit=limit)
    found = call(read_settings(settings, data).data, "GET", f"/admin/v1/feedback?{urlencode(query)}")
    if as_json:
        print(json.dumps(found))
        return
    print_table(("at", "tenant", "user", "request", "score", "correction", "reason"), [[_cells(one) for one in found["data"]]])


@app.command()
def export(
    out: Annotated[Path | None, typer.Option(help="The file to write; without it the rows are printed.")] = None,
    tenant: TenantOption = None,
    since: SinceOption = None,
    corrected: CorrectedOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Write JSON lines for training, newest first: what was asked and answered, where texts are kept, and what should have been said."""
    if as_json and out is None:
        raise typer.BadParameter("name the file with --out: the rows themselves are JSON lines", param_hint="--json")
    rows = _pages(read_settings(settings, data).data, _query(tenant, since, corrected=corrected))
    if out is None:
        for row in rows:
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        return
    counts = {"rows": 0, "corrected": 0, "with_texts": 0}
    with out.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            counts["rows"] += 1
            counts["corrected"] += row["correction"] is not None
            counts["with_texts"] += row["messages"] is not None
    done = {"object": "farthing.feedback_export", "file": str(out), **counts}
    said = f"{out}: {counts['rows']} rows, {counts['corrected']} with a correction, {counts['with_texts']} with what was asked"
    print(json.dumps(done) if as_json else said)


def _query(tenant: str | None, since: str | None, *, corrected: bool, limit: int | None = None) -> dict[str, Any]:
    given = {"tenant": tenant, "since": since, "corrected": "true" if corrected else None, "limit": limit}
    return {name: value for name, value in given.items() if value is not None}


def _pages(data: Path, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All rows, a page at a time."""
    before: dict[str, str] = {}
    while True:
        found = call(data, "GET", f"/admin/v1/feedback/export?{urlencode({**query, **before})}")
        yield from found["data"]
        if not found["has_more"]:
            return
        before = {"before": found["next"]}


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    texts = (one["correction"] or one.get("problem") or "", one["reason"] or "")
    return (one["at"][:19], one["tenant"], one["user"] or "", one["request_id"], f"{one['score']:g}", *texts)
