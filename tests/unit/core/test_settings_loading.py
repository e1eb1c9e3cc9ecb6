from __future__ import annotations

import contextlib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from farthing.errors import SettingsError
from farthing.settings import OpenAICompatibleSettings, Settings, effective, load

SMALLEST = """
providers:
  openai: {kind: openai_compatible, base_url: "https://api.openai.com/v1", api_key: "${OPENAI_API_KEY}"}
models:
  fast: {provider: openai, upstream_model: gpt-4o-mini, tags: [cheap], price: {input_usd_per_1m: 0.15, output_usd_per_1m: 0.60}}
"""
PROVIDER = {"kind": "openai_compatible", "base_url": "https://one.example/v1"}


def loaded(tmp_path: Path, text: str | dict[str, Any], environ: dict[str, str] | None = None, **overrides: Any) -> Settings:
    path = tmp_path / "farthing.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text), encoding="utf-8")
    return load(path, environ or {}, overrides)


def complaint(tmp_path: Path, text: str | dict[str, Any], environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, text, environ)
    return str(caught.value)


def catalogue(**models: Any) -> dict[str, Any]:
    """Settings with one provider and these models."""
    return {
        "providers": {"one": PROVIDER},
        "models": {name: {"provider": "one", "upstream_model": "u", **more} for name, more in models.items()},
    }


def test_nothing_given_is_a_working_default() -> None:
    settings = load(None, {})
    assert (settings.server.host, settings.server.port, settings.server.workers) == ("127.0.0.1", 8080, 1)
    assert settings.local.enabled
    assert settings.telemetry.otlp_endpoint is None


def test_the_documented_smallest_file_is_read(tmp_path: Path) -> None:
    settings = loaded(tmp_path, SMALLEST, {"OPENAI_API_KEY": "sk-abc"})
    provider = settings.providers["openai"]
    assert isinstance(provider, OpenAICompatibleSettings)
    key = provider.api_key
    assert key is not None
    assert key.get_secret_value() == "sk-abc"
    price = settings.models["fast"].price
    assert price is not None
    assert str(price.input_usd_per_1m) == "0.15"


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert loaded(tmp_path, "# nothing yet\n") == load(None, {})


class Kind(str):
    """Part of a place that is no level of the tree: of which kind the section there is."""

    __slots__ = ()


def sections(model: type[BaseModel], where: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], type[BaseModel]]]:
    """Every section that can be written, with a place where it can stand."""
    yield where, model
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        place: tuple[str | int, ...] = (*where, name)
        if typing.get_origin(kind) in {typing.Union, types.UnionType}:
            kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
        if typing.get_origin(kind) is typing.Annotated:  # a list or a name with bounds
            kind = typing.get_args(kind)[0]
        if typing.get_origin(kind) is dict:
            kind, place = typing.get_args(kind)[1], (*place, "a name")
        elif typing.get_origin(kind) is list:
            kind, place = typing.get_args(kind)[0], (*place, 0)
        if typing.get_origin(kind) is typing.Annotated:  # a choice of sections by their kind
            for member in typing.get_args(typing.get_args(kind)[0]):
                if isinstance(member, type) and issubclass(member, BaseModel):
                    yield from sections(member, (*place, Kind(*typing.get_args(member.model_fields["kind"].annotation))))
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from sections(kind, place)


def at(where: tuple[str | int, ...], leaf: dict[str, Any]) -> dict[str, Any]:
    """A tree with a leaf at a place."""
    tree: Any = leaf
    for part in reversed(where):
        tree = {"kind": str(part), **tree} if isinstance(part, Kind) else [tree] if isinstance(part, int) else {part: tree}
    return dict(tree)


ALL_SECTIONS = list(sections(Settings))


def test_the_sections_below_optional_fields_lists_and_names_are_covered() -> None:
    places = {where for where, _ in ALL_SECTIONS}
    assert ("models", "a name", "deployments", 0, "price") in places
    assert ("providers", "a name", "openai_compatible", "cooldown") in places
    assert ("providers", "a name", "bedrock") in places
    assert ("routing", "routers", "a name", "cascade", "checks", 0, "pattern") in places


@pytest.mark.parametrize(
    ("where", "section"), ALL_SECTIONS, ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else ""
)
def test_a_misspelt_name_anywhere_is_an_error_that_proposes_the_right_one(
    tmp_path: Path, where: tuple[str | int, ...], section: type[BaseModel]
) -> None:
    name = max(section.model_fields, key=len)
    misspelt = name[:-2] + name[-1] + name[-2] + "s"
    said = complaint(tmp_path, at(where, {misspelt: 1}))
    line = next(line for line in said.splitlines() if "there is no such setting" in line)
    assert line.startswith(".".join(str(part) for part in (*where, misspelt) if not isinstance(part, Kind)))
    assert f"did you mean {name!r}?" in line


def test_a_name_like_no_other_lists_those_that_exist(tmp_path: Path) -> None:
    said = complaint(tmp_path, {"cache": {"zzzzzzzz": 1}})
    assert said == "cache.zzzzzzzz: there is no such setting; known: exact, flush_on, namespaces, semantic"


def test_all_errors_are_named_at_once(tmp_path: Path) -> None:
    said = complaint(tmp_path, {"server": {"prot": 1, "workers": 0}, "ledgr": {}})
    assert {line.split(":")[0] for line in said.splitlines()} == {"server.prot", "server.workers", "ledgr"}


@pytest.mark.parametrize(
    ("variable", "value", "path", "expected"),
    [
        ("FARTHING_SERVER__PORT", "9000", "server.port", 9000),
        ("FARTHING_SERVER__HOST", "0.0.0.0", "server.host", "0.0.0.0"),
        ("FARTHING_LOCAL__ENABLED", "false", "local.enabled", False),
        ("FARTHING_CACHE__EXACT__TTL_S", "60", "cache.exact.ttl_s", 60.0),
        ("FARTHING_TELEMETRY__LOG_LEVEL", "debug", "telemetry.log_level", "debug"),
        ("FARTHING_DATA", "/var/lib/farthing", "data", Path("/var/lib/farthing")),
    ],
)
def test_a_variable_overrides_the_file(tmp_path: Path, variable: str, value: str, path: str, expected: Any) -> None:
    text = "server: {port: 1, host: 10.0.0.1}\nlocal: {enabled: true}\ncache: {exact: {ttl_s: 5}}\ndata: elsewhere\n"
    found: Any = loaded(tmp_path, text, {variable: value, "PATH": "/bin", "OTHER_SERVER__PORT": "7"})
    for part in path.split("."):
        found = getattr(found, part)
    assert found == expected


def test_a_variable_makes_sections_that_the_file_does_not_have(tmp_path: Path) -> None:
    environ = {
        "FARTHING_PROVIDERS__GROQ__KIND": "openai_compatible",
        "FARTHING_PROVIDERS__GROQ__BASE_URL": "https://api.groq.com/openai/v1/",
        "FARTHING_MODELS__QUICK": "{provider: groq, upstream_model: llama, tags: [cheap]}",
    }
    settings = loaded(tmp_path, "", environ)
    assert settings.providers["groq"].base_url == "https://api.groq.com/openai/v1"
    assert settings.models["quick"].tags == ["cheap"]


def test_the_command_line_overrides_the_variables(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("server: {port: 1}", encoding="utf-8")
    settings = load(path, {"FARTHING_SERVER__PORT": "2"}, {"server.port": 3, "data": tmp_path})
    assert (settings.server.port, settings.data) == (3, tmp_path)


def test_the_settings_file_variable_is_not_a_setting() -> None:
    assert load(None, {"FARTHING_SETTINGS": "/etc/farthing.yaml"}) == load(None, {})


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("FARTHING_SERVR__PORT", "1", "servr: there is no such setting; did you mean 'server'?"),
        ("FARTHING_SERVER__PROT", "1", "server.prot: there is no such setting; did you mean 'port'?"),
        ("FARTHING_SERVER", "1", "server: Input should be"),
        ("FARTHING_SERVER__PORT", "[1", "FARTHING_SERVER__PORT: the value is not YAML"),
        ("FARTHING_SERVER__HOST", "@home", "FARTHING_SERVER__HOST: the value is not YAML"),
        ("FARTHING_SERVER__PORT", "many", "server.port: "),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, {variable: value})
    assert str(caught.value).startswith(expected)


def test_a_variable_cannot_go_through_a_value(tmp_path: Path) -> None:
    assert "'server' is a value, not a section" in complaint(tmp_path, "server: 5", {"FARTHING_SERVER__PORT": "1"})


def test_an_unset_variable_in_the_file_is_named_with_its_place(tmp_path: Path) -> None:
    assert complaint(tmp_path, SMALLEST) == "providers.openai.api_key: the environment variable OPENAI_API_KEY is not set"
    listed = "models: {a: {provider: local, upstream_model: x, tags: [ok, '${TAG}']}}"
    assert complaint(tmp_path, listed) == "models.a.tags[1]: the environment variable TAG is not set"


def test_variables_stand_inside_of_text_and_are_not_read_twice(tmp_path: Path) -> None:
    text = 'providers: {one: {kind: openai_compatible, base_url: "https://${HOST}:${PORT}/v1", api_key: "${KEY}"}}'
    one = loaded(tmp_path, text, {"HOST": "a.example", "PORT": "8443", "KEY": "${HOST}"}).providers["one"]
    assert one.base_url == "https://a.example:8443/v1"
    assert isinstance(one, OpenAICompatibleSettings)
    assert one.api_key is not None
    assert one.api_key.get_secret_value() == "${HOST}"


def test_a_dollar_without_braces_is_a_dollar(tmp_path: Path) -> None:
    one = loaded(tmp_path, {"providers": {"one": {**PROVIDER, "api_key": "pa$$word$HOME${not a name}"}}}).providers["one"]
    assert isinstance(one, OpenAICompatibleSettings)
    assert one.api_key is not None
    assert one.api_key.get_secret_value() == "pa$$word$HOME${not a name}"


SECRETS = {
    "database": {"url": "postgresql://u:hunter2@db/x"},
    "providers": {"one": {**PROVIDER, "api_key": "sk-hunter2", "headers": {"x-secret": "hunter2"}}},
    "telemetry": {"otlp_headers": {"authorization": "Bearer hunter2"}},
}


def test_the_effective_settings_mask_secrets_and_show_all_else(tmp_path: Path) -> None:
    shown = effective(loaded(tmp_path, SECRETS))
    assert "hunter2" not in shown
    tree = yaml.safe_load(shown)
    assert set(tree) == set(Settings.model_fields)
    assert set(tree["providers"]["one"]["headers"]) == {"x-secret"}
    assert tree["providers"]["one"]["api_key"] == "**********"
    assert tree["server"]["port"] == 8080


def test_the_representation_masks_secrets_too(tmp_path: Path) -> None:
    assert "hunter2" not in repr(loaded(tmp_path, SECRETS))


@pytest.mark.parametrize("wrong", [{"database": {"url": ["hunter2"]}}, {"providers": {"one": {**PROVIDER, "api_key": {"a": "hunter2"}}}}])
def test_a_complaint_never_quotes_a_secret(tmp_path: Path, wrong: dict[str, Any]) -> None:
    assert "hunter2" not in complaint(tmp_path, wrong)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"models": {"a": {"provider": "opnai", "upstream_model": "x"}}, "providers": {"openai": PROVIDER}}, "did you mean 'openai'?"),
        ({"models": {"a": {"provider": "local", "upstream_model": "x"}}, "local": {"enabled": False}}, "there is no 'local'"),
        ({"models": {"a": {"deployments": [{"provider": "nope", "upstream_model": "x"}]}}}, "models.a.provider: there is no 'nope'"),
        (catalogue(a={"fallbacks": ["bb"]}, b={}), "models.a.fallbacks: there is no 'bb'"),
        (catalogue(a={"fallbacks": ["b"]}, b={"kind": "embeddings"}), "models.a.fallbacks: 'b' is for embeddings, 'a' for chat"),
        (catalogue(a={"fallbacks": ["local"], "kind": "embeddings"}), "models.a.fallbacks: 'local' is for chat"),
        ({**catalogue(a={"fallbacks": ["local"]}), "local": {"enabled": False}}, "models.a.fallbacks: there is no 'local'"),
        ({"models": {"a": {}}}, "models.a: needs either provider and upstream_model, or deployments"),
        (catalogue(a={"deployments": [{"provider": "one", "upstream_model": "x"}]}), "models.a: needs either"),
        ({"models": {"a": {"provider": "local"}}}, "models.a: upstream_model is missing"),
        ({"providers": {"local": PROVIDER}}, "providers.local: the name belongs to the embedded models"),
        (catalogue(**{"a b": {}}), "models.a b: a model name has"),
        (catalogue(**{"a\r\nx-evil": {}}), "a model name has"),
        (catalogue(**{"m" * 129: {}}), "a model name has"),
        ({"providers": {"one": {**PROVIDER, "base_url": "ftp://x/v1"}}}, "must be an http:// or https:// URL"),
        ({"providers": {"one": {**PROVIDER, "base_url": "https://u:p@x/v1"}}}, "must be an http:// or https:// URL"),
        ({"providers": {"one": {**PROVIDER, "base_url": "https://x/v1?key=1"}}}, "must be an http:// or https:// URL"),
        ({"providers": {"one": {**PROVIDER, "base_url": "https://x:99999/v1"}}}, "providers.one.base_url: Port out of range"),
        ({"providers": {"one": {**PROVIDER, "base_url": "https://x:many/v1"}}}, "providers.one.base_url: Port could not be cast"),
        (
            {"providers": {"one": {**PROVIDER, "kind": "openai"}}},
            "one.kind: there is no 'openai'; did you mean 'openai_compatible'?",
        ),
        ({"providers": {"one": {"base_url": "https://x/v1"}}}, "providers.one.kind: is missing; known: anthropic, bedrock"),
        ({"providers": {"one": {"kind": "openai_compatible"}}}, "providers.one.base_url: Field required"),
        ({"server": {"port": 70_000}}, "server.port: "),
        ({"cache": {"exact": {"ttl_s": 0}}}, "cache.exact.ttl_s: "),
        ({"models": {"a": {"provider": "local", "upstream_model": "x", "price": {"input_usd_per_1m": -1}}}}, "input_usd_per_1m: "),
        ({1: {"x": 2}}, "1: "),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, tree: dict[str, Any], expected: str) -> None:
    assert expected in complaint(tmp_path, tree)


def test_the_local_model_may_be_a_fallback(tmp_path: Path) -> None:
    assert loaded(tmp_path, catalogue(a={"fallbacks": ["b", "local"]}, b={})).models["a"].fallbacks == ["b", "local"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: [1", "is not YAML"),
        (b"\xff\xfe", "is not YAML"),
        (b"- a\n- b\n", "must hold named sections (a YAML mapping), not a list"),
        (b"just text", "not a str"),
    ],
)
def test_a_file_that_is_no_settings_file_is_refused(tmp_path: Path, data: bytes, expected: str) -> None:
    path = tmp_path / "farthing.yaml"
    path.write_bytes(data)
    with pytest.raises(SettingsError, match=r"farthing\.yaml") as caught:
        load(path, {})
    assert expected in str(caught.value)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load(tmp_path / "none.yaml", {})
    with pytest.raises(SettingsError, match="Is a directory"):
        load(tmp_path, {})


@given(st.text(max_size=40), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_any_variable_loads_or_is_refused_with_a_reason(name: str, value: str) -> None:
    with contextlib.suppress(SettingsError):
        load(None, {f"FARTHING_{name}": value})
