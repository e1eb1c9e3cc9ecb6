"""The `farthing` command as people and scripts use it: what it prints, what it refuses, how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from inside import ask, eventually, new_key

from farthing.cli.main import main
from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream

Done = subprocess.CompletedProcess[str]


class Cli:
    """The command in a folder of its own, away from any installation. In this process, which saves a second a call."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str, **environ: str) -> Done:
        with self._monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("FARTHING_")]:
                patch.delenv(name)
            for name, value in environ.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["farthing", *arguments])
            patch.chdir(self.folder)
            with pytest.raises(SystemExit) as end:
                main()
        said = self._capsys.readouterr()
        return Done(args=arguments, returncode=int(end.value.code or 0), stdout=said.out, stderr=said.err)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(tmp_path, monkeypatch, capsys)


def _last(done: Done) -> Any:
    """The JSON object on the last line."""
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def _refused(done: Done) -> str:
    """One line for people on standard error, exit status 1, nothing on standard output."""
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("farthing: ")
    return done.stderr


def test_a_key_is_created_listed_and_revoked(books: Installation) -> None:
    made = _last(books.cli("key", "create", "--tenant", "cli", "--user", "ada", "--tier", "pro", "--name", "Ada's laptop", "--json"))
    assert {name: made[name] for name in ("tenant", "user", "tier", "name", "admin", "models")} == {
        "tenant": "cli",
        "user": "ada",
        "tier": "pro",
        "name": "Ada's laptop",
        "admin": False,
        "models": None,
    }
    assert made["key"].startswith("fk-")
    assert made["hint"] == made["key"][-4:]
    assert ask(books, made["key"], "From the command line", "plain").status_code == 200

    listed = _last(books.cli("key", "list", "--tenant", "cli", "--json"))["data"]
    assert [row["id"] for row in listed] == [made["id"]]
    assert "key" not in listed[0]
    table = books.cli("key", "list", "--tenant", "cli").stdout
    (line,) = [line for line in table.splitlines() if made["id"] in line]
    assert "Ada's laptop" in line
    assert "good" in line
    assert made["key"] not in table

    assert _last(books.cli("key", "revoke", made["id"], "--json"))["revoked"] is True
    eventually(lambda: ask(books, made["key"], "Afterwards", "plain").status_code == 401, "refused")
    assert "revoked" in books.cli("key", "list", "--tenant", "cli").stdout


def test_a_key_without_json_is_shown_once_for_people(books: Installation) -> None:
    said = books.cli("key", "create", "--tenant", "cli-people").stdout.splitlines()
    assert ask(books, said[0], "Hello", "plain").status_code == 200
    assert "not shown again" in said[1]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("key", "create", "--tenant", "no spaces"), "tenant"),
        (("key", "create", "--tenant", "unauthenticated"), "reserved"),
        (("key", "create", "--tenant", "cli", "--model", "plane"), "plain"),
        (("key", "revoke", "01a20a6c-3316-7283-a538-8245c11bca8f"), "there is no key"),
        (("key", "revoke", "mine"), "UUID"),
        (("report", "--since", "yesterday"), "24h"),
        (("report", "--by", "colour"), "model, tenant, key, source"),
    ],
)
def test_what_the_server_refuses_is_said_in_one_line(books: Installation, cli: Cli, arguments: tuple[str, ...], hint: str) -> None:
    assert hint in _refused(cli(*arguments, "--data", str(books.data)))


def test_a_failed_command_is_one_line_and_exit_status_1_for_the_shell_too(books: Installation) -> None:
    _refused(books.cli("key", "revoke", "mine", check=False))


def test_a_key_for_some_models_opens_no_others(books: Installation, up: ScriptedUpstream) -> None:
    key = _last(books.cli("key", "create", "--tenant", "cli", "--model", "plain", "--model", "vectors", "--json"))["key"]
    headers = {"authorization": f"Bearer {key}"}
    assert ask(books, key, "Allowed", "plain").status_code == 200
    asked = up.received
    refused = ask(books, key, "Not allowed", "dear")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_allowed")
    assert refused.headers["x-should-retry"] == "false"
    assert ask(books, key, "Nor by its stream", "dear", stream=True).status_code == 403
    assert up.received == asked
    models = httpx.get(f"{books.base_url}/models", headers=headers).json()["data"]
    assert [model["id"] for model in models] == ["plain", "vectors"]
    assert httpx.get(f"{books.base_url}/models/plain", headers=headers).status_code == 200
    hidden = httpx.get(f"{books.base_url}/models/dear", headers=headers)
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "model_not_found")
    assert "dear" not in hidden.json()["error"]["message"].split("Models:")[1]


def test_no_ordinary_key_opens_the_admin_doors(books: Installation) -> None:
    key = new_key(books, "cli")["key"]
    for path in ("/admin/v1/keys", "/admin/v1/report", "/metrics", "/admin/v1/nothing"):
        status, body = books.get(path, key=key)
        assert (status, json.loads(body)["error"]["code"]) == (403, "not_allowed"), path


def test_settings_check_prints_the_effective_settings_with_secrets_masked(cli: Cli) -> None:
    provider = {
        "kind": "openai_compatible",
        "base_url": "https://api.example.com/v1",
        "api_key": "${EXAMPLE_KEY}",
        "headers": {"x-second": "canary-second"},
    }
    settings = {"providers": {"example": provider}, "models": {"fast": {"provider": "example", "upstream_model": "small"}}}
    (cli.folder / "farthing.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    environ = {
        "EXAMPLE_KEY": "sk-canary-first",
        "FARTHING_SERVER__PORT": "9001",
        "FARTHING_DATABASE__URL": "postgresql://me:canary-third@db.example.com/farthing",
    }
    done = cli("settings", "check", **environ)
    assert done.returncode == 0, done.stderr
    told = yaml.safe_load(done.stdout)
    assert told["server"]["port"] == 9001
    assert told["providers"]["example"]["base_url"] == "https://api.example.com/v1"
    assert told["providers"]["example"]["api_key"] == "**********"
    as_json = cli("settings", "check", "--json", **environ)
    assert _last(as_json) == told
    assert "canary" not in done.stdout + done.stderr + as_json.stdout + as_json.stderr


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        ("server: {prot: 1}", {}, ("server.prot", "port")),
        ("cach: {}", {}, ("cach", "cache")),
        ("models: {fast: {provider: local, upstream_model: m, tag: []}}", {}, ("models.fast.tag", "tags")),
        ("models: {fast: {provider: lokal, upstream_model: m}}", {}, ("lokal", "local")),
        ("server: {port: many}", {}, ("server.port",)),
        ("server: {port: 70000}", {}, ("server.port", "65535")),
        ("", {"FARTHING_SERVER__PROT": "1"}, ("server.prot", "port")),
        ("", {"FARTHING_SERVR__PORT": "1"}, ("servr", "server")),
        ("", {"FARTHING_PORT": "1"}, ("port",)),
        ("database: {url: '${NOBODY_SET_THIS}'}", {}, ("database.url", "NOBODY_SET_THIS")),
        ("[1, 2", {}, ("farthing.yaml", "YAML")),
        ("- a\n- list", {}, ("farthing.yaml", "mapping")),
        ("providers: {up: {kind: openai_compatible, base_url: 'https://user:sk-canary@example.com'}}", {}, ("base_url",)),
    ],
)
def test_wrong_settings_are_refused_by_name_with_the_nearest_one(
    cli: Cli, text: str, environ: dict[str, str], said: tuple[str, ...]
) -> None:
    (cli.folder / "farthing.yaml").write_text(text, encoding="utf-8")
    message = _refused(cli("settings", "check", **environ))
    for word in said:
        assert word in message
    assert "canary" not in message


def test_a_settings_file_that_is_not_there_is_named(cli: Cli) -> None:
    assert "missing.yaml" in _refused(cli("settings", "check", "--settings", "missing.yaml"))


def test_up_refuses_wrong_settings_before_it_starts_anything(cli: Cli) -> None:
    assert "port" in _refused(cli("up", "--data", "data", FARTHING_SERVER__PROT="1"))
    assert not (cli.folder / "data").exists()


def test_models_shows_the_catalogue_and_the_licences_of_the_weights(cli: Cli) -> None:
    found = _last(cli("models", "--json"))
    assert {model["name"]: model["kind"] for model in found["models"]} == {"local": "chat", "local-embeddings": "embeddings"}
    licences = {weight["name"]: weight["licence"] for weight in found["weights"]}
    assert licences == {"smollm2-135m": "Apache-2.0", "all-minilm-l6-v2": "Apache-2.0"}
    table = cli("models").stdout
    for words in (("local", "chat"), ("smollm2-135m", "Apache-2.0"), ("all-minilm-l6-v2", "Apache-2.0")):
        assert any(all(word in line for word in words) for line in table.splitlines()), words


@pytest.mark.parametrize("arguments", [("report",), ("key", "list"), ("key", "create", "--tenant", "t")])
def test_commands_for_an_installation_that_does_not_run_say_how_to_start_one(cli: Cli, arguments: tuple[str, ...]) -> None:
    message = _refused(cli(*arguments, "--data", "nothing-here"))
    assert "nothing-here" in message
    assert "farthing up" in message


def test_a_command_for_an_installation_that_was_killed_says_that_it_does_not_answer(cli: Cli, books: Installation) -> None:
    (cli.folder / "run.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "pid": 1}), encoding="utf-8")
    (cli.folder / "admin.key").write_text(books.key, encoding="utf-8")
    assert "does not answer at http://127.0.0.1:9" in _refused(cli("report", "--data", "."))
