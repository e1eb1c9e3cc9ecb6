"""`farthing route train`: a learned router from the user's own rows or outcomes, into a file or into a running installation."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

import msgspec
import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.route_score import SHAPES, ModelsOption, SeedOption, by_score, names_of, read_scores, rows_of
from farthing.cli.route_versions import learner, path_of
from farthing.errors import InvalidRequest
from farthing.providers.local.embedder import VERSION
from farthing.routing.learned.comparison import Comparison, against, against_length
from farthing.routing.learned.features import NAMES
from farthing.routing.learned.outcomes import MOST_ROWS, Row, table_of
from farthing.routing.learned.training import Trained, metrics, trained_on
from farthing.routing.outcome_rows import examples_of
from farthing.types import Outcome, OutcomeBy

_PAGE = 1000
_MOST_OUTCOMES = 8 * MOST_ROWS
_ROUTER = "Keep it as a new version of this router of a running installation."


class _Material(msgspec.Struct, frozen=True):
    """What there is to learn from, about which models, and what is to be said of where it comes from."""

    rows: list[Row]
    models: tuple[str, ...]
    source: dict[str, Any]


def train_command(
    train: Annotated[Path | None, typer.Option("--train", help=f"Rows to learn from, plain or gzipped JSON lines: {SHAPES}.")] = None,
    from_ledger: Annotated[bool, typer.Option("--from-ledger", help="Learn from the router's outcomes instead of rows.")] = False,  # noqa: FBT002 - a flag
    tenant: Annotated[str | None, typer.Option(help="With --from-ledger: only from this tenant's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the trained router is written.")] = None,
    router: Annotated[str | None, typer.Option(help=_ROUTER)] = None,
    models: ModelsOption = None,
    seed: SeedOption = 1,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Train a router on your own rows, or on what was said of answers. Says what is to be expected of it, and keeps it where you say.

    A new version of a router decides nothing before it is promoted. It is compared, on rows that neither has seen, with the version that
    decides now, and with sending long prompts to the strongest model.
    """
    if (train is None) is not from_ledger:
        raise InvalidRequest("Give --train FILE or --from-ledger.")
    if (from_ledger or out is None) and router is None:
        raise InvalidRequest("Give --router NAME, or --train FILE and --out FILE.")
    if tenant is not None and not from_ledger:
        raise InvalidRequest("--tenant goes with --from-ledger: rows of a file have no tenant.")
    if out is not None and not out.parent.is_dir():
        raise InvalidRequest(f"{out} cannot be written: there is no folder {out.parent}")
    folder = read_settings(settings, data).data if router is not None else Path()
    candidates = learner(folder, router)["models"] if router is not None else []
    wanted = names_of(models)
    if train is not None:
        material = _from_file(train, wanted, candidates)
    else:
        material = _from_ledger(folder, str(router), tenant, wanted or tuple(candidates))
    table = table_of(material.rows, material.models, seed)
    trained = trained_on(table, material.models, embedder=VERSION, seed=seed)
    artefact = trained.model.dump()
    found = {**metrics(trained, seed), **material.source, "bytes": len(artefact)}
    if out is not None:
        _write(out, artefact)
        found["out"] = str(out)
    if router is None:
        print(json.dumps(found))
        return
    found |= _kept(folder, router, artefact, trained, found)
    print(json.dumps(found) if as_json else _said(found))


def _from_file(path: Path, wanted: tuple[str, ...], candidates: Sequence[str]) -> _Material:
    read = read_scores(path)
    names = wanted or _of_candidates(read, candidates) or by_score(read)
    return _Material(rows_of(read, names), names, {"source": "file"})


def _of_candidates(read: Sequence[tuple[str, dict[str, float]]], candidates: Sequence[str]) -> tuple[str, ...]:
    """A router's candidates that the rows speak of, in its order; for rows of weak and strong the only two. Empty without a router."""
    named = {name for _, scores in read for name in scores}
    if named == {"weak", "strong"} and candidates and not named <= set(candidates):
        if len(candidates) != 2:  # noqa: PLR2004 - these two
            raise InvalidRequest(f"Say with --models which two of {', '.join(candidates)} are weak and strong in these rows.")
        return tuple(candidates)
    known = tuple(name for name in candidates if name in named)
    if candidates and len(known) < 2:  # noqa: PLR2004 - one alone leaves no choice
        raise InvalidRequest(f"These rows are about {', '.join(sorted(named))[:200]}, and the router is for {', '.join(candidates)}.")
    return known


def _from_ledger(folder: Path, router: str, tenant: str | None, names: tuple[str, ...]) -> _Material:
    examples = examples_of(_outcomes(folder, router, tenant), names, VERSION, features=len(NAMES))
    rows = [Row(vector=one.vector, features=one.features, scores=scores) for one, scores in examples.complete]
    source = {"source": "ledger", "tenant": tenant, "incomplete": examples.incomplete, "foreign": examples.foreign}
    if not rows:
        raise InvalidRequest(
            f"The router {router!r} has no outcomes to learn from: {examples.incomplete} requests of which another model's score is "
            f"missing, {examples.foreign} that another embedder or version of Farthing has read."
        )
    return _Material(rows, names, source)


def _outcomes(folder: Path, router: str, tenant: str | None) -> list[Outcome]:
    """The latest ones, page by page."""
    found: list[Outcome] = []
    query: dict[str, object] = {"limit": _PAGE, **({} if tenant is None else {"tenant": tenant})}
    while len(found) < _MOST_OUTCOMES:
        page = call(folder, "GET", f"{path_of(router)}/outcomes?{urlencode(query)}")
        found += [_outcome(one) for one in page["data"]]
        if not page["has_more"]:
            break
        query["before"] = page["next"]
    return found


def _outcome(one: dict[str, Any]) -> Outcome:
    by: OutcomeBy = one["by"]
    return Outcome(
        request_id=UUID(one["request_id"]),
        tenant=one["tenant"],
        router=one["router"],
        model=one["model"],
        score=one["score"],
        by=by,
        vector=base64.b64decode(one["vector"]),
        embedder=one["embedder"],
        features=tuple(one["features"]),
        explored=one["explored"],
        at=datetime.fromisoformat(one["at"]),
    )


def _write(out: Path, artefact: bytes) -> None:
    try:
        out.write_bytes(artefact)
    except OSError as error:
        raise InvalidRequest(f"{out} cannot be written: {error}") from None


def _kept(folder: Path, router: str, artefact: bytes, trained: Trained, found: dict[str, Any]) -> dict[str, Any]:
    """The number of the new version, how it compares, and whether to promote it."""
    length, now = against_length(trained), learner(folder, router)["promoted"]
    before = _against_promoted(folder, router, trained) if now is not None else None
    promote, why = advice(length, before)
    judged = {
        "against_prompt_length": msgspec.to_builtins(length),
        "against_promoted": msgspec.to_builtins(before),
        "promoted": now,
        "advice": {"promote": promote, "why": why},
    }
    body = {"artefact": base64.b64encode(artefact).decode(), "metrics": {**found, **judged}}
    made = call(folder, "POST", f"{path_of(router)}/versions", body)
    return {"router": router, "version": made["version"], **judged}


def _against_promoted(folder: Path, router: str, trained: Trained) -> Comparison:
    try:
        return against(trained, base64.b64decode(call(folder, "GET", f"{path_of(router)}/promoted")["artefact"]))
    except InvalidRequest:  # of another embedder or version of Farthing: it decides nothing any more
        return Comparison(n=0)


def advice(length: Comparison, promoted: Comparison | None) -> tuple[bool, str]:
    """Whether promoting a new version looks wise, and why. `promoted` None: nothing decides now. Pure."""
    if length.apgr is None:
        return False, "the strongest model has no advantage on these rows, or they are too few: there is nothing to learn"
    if not length.better:
        return False, f"it is not better than the length of the prompt: APGR {length.apgr:.3f} against {length.other:.3f}"
    if promoted is None:
        return True, f"it is better than the length of the prompt: APGR {length.apgr:.3f} against {length.other:.3f}"
    if promoted.apgr is None:
        return False, f"it cannot be compared with what decides now: {promoted.n} rows that this has not seen are too few"
    verdict = "" if promoted.better else "not "
    said = f"APGR {promoted.apgr:.3f} against {promoted.other:.3f} on {promoted.n} rows that neither has seen"
    return promoted.better, f"it is {verdict}better than what decides now: {said}"


def _said(found: dict[str, Any]) -> str:
    apgr, interval, router, version = found["apgr"], found["apgr_interval"], found["router"], found["version"]
    within = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    expected = "nothing to gain" if apgr is None else f"APGR {apgr:.3f}{within}"
    advised = f"promote it (farthing route promote {router} {version})" if found["advice"]["promote"] else "promoting it is not advised"
    return f"{router}: version {version} from {found['n_train']} rows, {expected}\n{advised}: {found['advice']['why']}"
