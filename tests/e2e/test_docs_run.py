"""README.md and docs/ are true: what can be run is run as pasted, what can be looked up is looked up."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
import typer
import yaml
from inside import eventually, new_key
from pydantic import BaseModel

from farthing.cli.main import app
from farthing.settings import AnthropicSettings, LiteLLMSettings, OpenAICompatibleSettings, ProviderSettings, Secrets, Settings, load
from farthing.testing.installation import Installation

_ROOT = Path(__file__).parents[2]
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_MOVING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|chatcmpl-\w+|\d{4}-\d\d-\d\dT[\d:.]+Z|\d+(?:\.\d+)?")
"""Ids, times and numbers in an output."""


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A fenced block, and the one after it."""

    page: Path
    line: int
    language: str
    text: str
    following: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        return f"{self.page.relative_to(_ROOT)}:{self.line}"


def _blocks(*languages: str) -> list[Block]:
    found = []
    for page in _PAGES:
        text = page.read_text(encoding="utf-8")
        matches = [*_FENCE.finditer(text)]
        for match, after in zip(matches, [*matches[1:], None], strict=False):
            near = after is not None and not text[match.end() : after.start()].strip()
            following = (after[1], after[2]) if near and after is not None else ("", "")
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page=page, line=line, language=match[1], text=match[2], following=following))
    return [block for block in found if block.language in languages]


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def _words(page: Path) -> list[str]:
    """What is set as code in the prose of a page."""
    return [match[1] for match in _CODE.finditer(_prose(page))]


@pytest.fixture(scope="module")
def readers(folders: Path) -> Iterator[Installation]:
    """What a reader has in front of him: `make up`, in its folder, with the data in `.farthing`."""
    with Installation(folders / "readers", data_name=".farthing") as running:
        yield running


def _run(farthing: Installation, command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    """Run pasted text in the installation's folder, at the installation's address."""
    there = text.replace("127.0.0.1:8080", farthing.url.removeprefix("http://"))
    there = there.replace(".venv/bin/farthing", str(Path(sys.executable).parent / "farthing"))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FARTHING_")}
    return subprocess.run([*command, there], capture_output=True, text=True, check=False, timeout=150, cwd=farthing.folder, env=environ)


@pytest.mark.skipif(not shutil.which("curl"), reason="the examples use curl, which is not installed here")
@pytest.mark.parametrize("block", _blocks("bash"), ids=str)
def test_a_shell_example_runs_as_pasted(readers: Installation, block: Block) -> None:
    done = _run(readers, ["bash", "-euo", "pipefail", "-c"], block.text)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout
    if "curl" in block.text:
        answer = json.loads(done.stdout)
        assert answer.get("object") == "chat.completion" or answer.keys() & {"error", "input_tokens", "text"}
    if "--json" in block.text:
        assert isinstance(json.loads(done.stdout.splitlines()[-1] if "list" not in block.text else done.stdout.splitlines()[0]), dict)
    language, expected = block.following
    if language == "json":
        assert _without(json.loads(done.stdout)) == _without(json.loads(expected))


def _without(found: Any) -> Any:
    """Ids and times taken out."""
    moving = {"id", "created", "created_at", "since", "until"}
    return {name: value for name, value in found.items() if name not in moving} if isinstance(found, dict) else found


@pytest.mark.parametrize("block", _blocks("python"), ids=str)
def test_a_python_example_runs_as_pasted(readers: Installation, block: Block) -> None:
    done = _run(readers, [sys.executable, "-c"], block.text)
    assert done.returncode == 0, done.stderr
    language, shown = block.following
    assert language == "text", "a Python example shows what it prints"
    expected = [_MOVING.sub("N", line) for line in shown.splitlines()]
    assert [_MOVING.sub("N", line) for line in done.stdout.splitlines()[: len(expected)]] == expected
    assert "0.000000" in shown
    assert "0.000000" in done.stdout.splitlines()[1]


@pytest.mark.parametrize("block", _blocks("sql"), ids=str)
def test_a_database_example_runs_as_pasted(readers: Installation, block: Block) -> None:
    with psycopg.connect(readers.database_url, autocommit=True) as connection:
        connection.execute(block.text.encode())


def _settings_of(block: Block) -> dict[str, Any]:
    """A settings example, on top of the providers that the same page has shown before it."""
    providers: dict[str, Any] = {}
    for earlier in _blocks("yaml"):
        tree: dict[str, Any] = yaml.safe_load(earlier.text)
        providers |= tree.get("providers", {})
        if earlier == block:
            return {**tree, **({"providers": providers} if "models" in tree else {})}
    raise AssertionError(block)


@pytest.mark.parametrize("block", _blocks("yaml"), ids=str)
def test_a_settings_example_is_valid(tmp_path: Path, block: Block) -> None:
    shown = "".join(one.text for one in _blocks("yaml"))
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", shown), "set")
    secrets = Secrets(known=dict.fromkeys(re.findall(r"\$\{([a-z-]+:[^}]+)\}", shown), "set"))
    file = tmp_path / "farthing.yaml"
    file.write_text(yaml.safe_dump(_settings_of(block)), encoding="utf-8")
    load(file, environ, {}, secrets)


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        yield name, model
        for below in re.findall(r"(\w+Settings)", str(field.annotation)):
            yield from _fields(getattr(sys.modules["farthing.settings"], below))


def _resolves(path: list[str]) -> bool:
    """Whether a dotted name is a setting; below a mapping the name of an entry may be left out."""
    sections = {name: getattr(sys.modules["farthing.settings"], below) for name, below in _sections(Settings)}
    sections["cooldown"] = getattr(sys.modules["farthing.settings"], "CooldownSettings")  # noqa: B009 - not a name that the module exports
    here = sections.get(path[0])
    for part in path[1:]:
        if here is None or part not in here.model_fields:
            return False
        below = re.findall(r"(\w+Settings)", str(here.model_fields[part].annotation))
        here = getattr(sys.modules["farthing.settings"], below[0]) if below else None
    return True


def _sections(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        for below in re.findall(r"(\w+Settings)", str(field.annotation)):
            yield name, below


def test_every_section_of_the_settings_is_on_its_page() -> None:
    named = {word.split(".")[0] for word in _words(_ROOT / "docs" / "settings.md")}
    assert Settings.model_fields.keys() - {"data"} <= named


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    known = {name for name, _ in _fields(Settings)}
    dotted = re.compile(rf"(?:{'|'.join(Settings.model_fields)}|cooldown)(?:\.[a-z_]+)+")
    plain = re.compile(r"max_[a-z_]+|[a-z_]+_(?:s|bytes|rate|rows|ratio|endpoint|requests|wait_s)")
    not_settings = {
        "max_tokens",
        "max_cost_usd",
        "window_s",
        "max_output_tokens",
        "max_completion_tokens",
        "farthing_requests",
        "telemetry.failures",
        "noticed_s",
        "reaction_s",
        "back_in_deep_after_s",
    }
    for word in _words(page):
        word = word.split(":")[0].split("=")[0]  # noqa: PLW2901 - `name: value` names a setting too
        if word in not_settings or word.endswith((".py", ".sql", ".md", ".key", ".json", ".jsonl", ".yaml")):
            continue
        if dotted.fullmatch(word):
            assert _resolves(word.split(".")), word
        elif plain.fullmatch(word):
            assert word in known, word


def test_the_table_of_provider_settings_is_complete_and_its_defaults_are_right() -> None:
    text = (_ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    shown: dict[str, str] = {}
    for names, default in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]*)\| ", text, re.MULTILINE):
        shown |= dict.fromkeys(re.findall(r"\w+", names), default.strip())
    elsewhere = {"kind", "retries", "cooldown"}  # in the prose
    assert shown.keys() | elsewhere == OpenAICompatibleSettings.model_fields.keys()
    for name, default in shown.items():
        value = OpenAICompatibleSettings.model_fields[name].default
        mebibytes = re.fullmatch(r"(\d+) MiB", default)
        if mebibytes:
            assert value == int(mebibytes[1]) * 2**20, name
        elif default and default != "guessed":
            assert str(value).lower() == default, name


@pytest.mark.parametrize("kind", [AnthropicSettings, LiteLLMSettings])
def test_the_settings_of_each_kind_of_provider_are_on_its_page(kind: type[BaseModel]) -> None:
    text = (_ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    (section,) = [part for part in text.split("\n## ") if f"kind: {kind.model_fields['kind'].annotation.__args__[0]}" in part]  # type: ignore[union-attr]  # a Literal
    own = kind.model_fields.keys() - ProviderSettings.model_fields.keys() - {"kind"}
    assert own <= set(re.findall(r"\w+", section))
    for name, default in re.findall(r"^\| `(\w+)` \| `?([^|`]+)`? \| ", section, re.MULTILINE):
        assert str(kind.model_fields[name].default) == default.strip(), name


def test_the_table_of_doors_is_true(readers: Installation) -> None:
    text = (_ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    doors = re.findall(r"^\| (`/.*?`) \| ([A-Z, ]+) \| (any|admin|none) \|$", text, re.MULTILINE)
    assert len(doors) >= 8
    keys = {"none": "", "any": new_key(readers, "doors")["key"], "admin": readers.key}
    with httpx.Client(base_url=readers.url, timeout=30) as client:
        for paths, methods, needed in doors:
            shown = {method.strip() for method in methods.split(",")}
            for path in re.findall(r"`(.*?)`", paths):
                allowed = set()
                for method in ("GET", "POST", "DELETE", "PUT"):
                    status = {
                        who: client.request(
                            method, path.replace("{id}", "local"), headers={"authorization": f"Bearer {key}"} if key else {}
                        ).status_code
                        for who, key in keys.items()
                    }
                    assert (status["none"] == 401) is (needed != "none"), (path, method)
                    assert (status["any"] == 403) is (needed == "admin"), (path, method)
                    if status["admin"] != 405:
                        allowed.add(method)
                assert allowed <= shown, path
                assert len(allowed) >= 1, path


def test_every_command_that_is_named_exists() -> None:
    tree = typer.main.get_command(app)
    named = {word for page in _PAGES for word in _words(page) if re.match(r"farthing [a-z]", word)}
    named |= {line.strip() for block in _blocks("bash") for line in re.findall(r"\.venv/bin/(farthing [^|\n]*)", block.text)}
    assert named
    for line in named:
        words = [word for word in line.split()[1:] if not re.match(r"[A-Z]", word)]
        here: Any = tree
        while words and hasattr(here, "commands"):
            name = words.pop(0)
            choices = name.split("|")
            assert all(choice in here.commands for choice in choices), line
            here = here.commands[choices[0]]
        options = {option for parameter in here.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("page", [*_PAGES, _ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    for word in _words(page):
        if re.fullmatch(r"[\w./-]+/[\w./-]*\.(?:py|sql|md|sh)|src/[\w./-]+", word):
            assert any((folder / word).exists() for folder in (_ROOT, _ROOT / "src", _ROOT / "src" / "farthing")), word


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [_ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or not page.exists():
            continue
        reached.add(page)
        waiting += [(page.parent / target).resolve() for target in re.findall(r"\]\(([\w./-]+\.md)", _prose(page))]
    assert {page for page in _PAGES if page not in reached} == set()


def test_the_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (_ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)", (_ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"install", "up", "test", "lint", "bench"} <= targets
    assert named <= targets


def test_the_banner_shows_a_command_that_works_as_pasted(readers: Installation) -> None:
    said = eventually(lambda: readers.log.read_text(encoding="utf-8").partition("Try:\n")[2], "the banner")
    command = re.match(r"curl.*?\n(?:  .*\n)*", said)
    assert command
    assert "$(cat .farthing/admin.key)" in command[0]
    done = _run(readers, ["bash", "-euo", "pipefail", "-c"], command[0])
    assert json.loads(done.stdout)["object"] == "chat.completion", done
