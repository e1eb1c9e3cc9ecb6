"""`farthing cache …`: of a running installation."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from farthing.cli import cache_score, cache_tune
from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table

app = typer.Typer(help="The caches: flush them, ask why, score them on your own data.", no_args_is_help=True)

app.command()(cache_score.score)
app.command(name="tune")(cache_tune.tune_command)

_Tenant = Annotated[str, typer.Option(help="Whose request it would be.")]


@app.command()
def flush(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's. All tenants' unless given.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Only in this namespace.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only answers to requests with this tag (farthing.tags).")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's personal questions. Needs --tenant.")] = None,
    key: Annotated[str | None, typer.Option(help="Only the answer under this key.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All there is.")] = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Delete cached answers, at once in every worker: what they were made from has changed."""
    named = {"tenant": tenant, "namespace": namespace, "tag": tag, "user": user, "key": key}
    body = {**{name: value for name, value in named.items() if value is not None}, "all": everything}
    done = call(read_settings(settings, data).data, "POST", "/admin/v1/cache/flush", body)
    print(json.dumps(done) if as_json else f"deleted: {done['answers']} answers, {done['questions']} questions")


@app.command()
def explain(
    prompt: Annotated[str, typer.Argument(help="What is asked.")],
    tenant: _Tenant = "default",
    user: Annotated[str | None, typer.Option(help="The tenant's user who asks.")] = None,
    model: Annotated[str | None, typer.Option(help="The model asked for: the first chat model unless given.")] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt before it.")] = None,
    namespace: Annotated[str | None, typer.Option(help="The namespace.")] = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Say whether a question would be answered from a cache, and why. No model is called."""
    messages = [{"role": "system", "content": system}] if system is not None else []
    extras = {"namespace": namespace} if namespace is not None else None
    request = {"model": model, "messages": [*messages, {"role": "user", "content": prompt}], "farthing": extras}
    body = {"tenant": tenant, "user": user, "request": {name: value for name, value in request.items() if value is not None}}
    found = call(read_settings(settings, data).data, "POST", "/admin/v1/cache/explain", body)
    print(json.dumps(found) if as_json else _explained(found))


@app.command()
def verdict(
    request_id: Annotated[str, typer.Argument(help="The request whose answer came from the semantic cache (x-farthing-request-id).")],
    tenant: Annotated[str, typer.Option(help="Whose request it was.")],
    right: Annotated[bool, typer.Option("--right/--wrong", help="Whether the answer was right for it.")],
    correction: Annotated[bool, typer.Option(help="Somebody has written what the answer should have been.")] = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Say that an answer from the semantic cache was right or wrong. A bad answer is gone at once."""
    body = {"tenant": tenant, "request_id": request_id, "right": right, "by": "correction" if correction else "thumb"}
    done = call(read_settings(settings, data).data, "POST", "/admin/v1/cache/verdicts", body)
    if as_json:
        print(json.dumps(done))
        return
    print(f"question {done['question']}: {done['consequence']}" + ("" if done["new"] else " (said before)"))
    for answered in done["answered"]:
        print(f"answered with it: {answered}")


@app.command()
def hits(
    question: Annotated[str, typer.Argument(help="The cached question's id, from `farthing cache explain`.")],
    tenant: Annotated[str, typer.Option(help="Whose question it is.")],
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """List the requests that a cached answer went to."""
    query = urlencode({"tenant": tenant, "question": question})
    found = call(read_settings(settings, data).data, "GET", f"/admin/v1/cache/hits?{query}")
    if as_json:
        print(json.dumps(found))
    else:
        print_table(("request", "at", "saved $"), [[(row["request_id"], row["at"], row["saved_microusd"] / 1e6) for row in found["data"]]])


@app.command()
def stats(
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Show how much is cached, and the measured share of wrong answers from the semantic cache."""
    found = call(read_settings(settings, data).data, "GET", "/admin/v1/cache/stats")
    print(json.dumps(found) if as_json else _stated(found))


def _explained(found: dict[str, Any]) -> str:
    lines = [f"{found['source']}: {found['why']}"]
    for one in found.get("candidates", ()):
        guard = f", guard: {one['guard']}" if one["guard"] else ""
        lines.append(
            f"  {one['similarity']:.3f} {one['asked'][:80]!r}: P(wrong) {one['p_wrong']:.4f}, at most {one['p_wrong_at_most']:.4f}{guard}"
            f" ({one['question']})"
        )
    return "\n".join(lines)


def _stated(found: dict[str, Any]) -> str:
    lines = [f"{found['questions']} questions"]
    for tenant, share in found["tenants"].items():
        lines.append(
            f"{tenant}: {share['error_rate']:.2%} of the hits wrong, {share['error_low']:.2%} to {share['error_high']:.2%}"
            f" by {share['audits']:g} audits"
        )
    return "\n".join(lines)
