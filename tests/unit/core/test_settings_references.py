from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from farthing.errors import SettingsError
from farthing.settings import AwsSettings, OpenAICompatibleSettings, Secrets, Settings, Vault, effective, load, load_text, masked

SECRET = "sk-from-a-vault-0123456789"


def written(folder: Path, key: str, **sections: Any) -> Path:
    """A settings file whose one provider has this key."""
    provider = {"kind": "openai_compatible", "base_url": "https://one.example/v1", "api_key": key}
    path = folder / "farthing.yaml"
    path.write_text(yaml.safe_dump({"providers": {"one": provider}, **sections}), encoding="utf-8")
    return path


def key_of(settings: Settings) -> str:
    provider = settings.providers["one"]
    assert isinstance(provider, OpenAICompatibleSettings)
    assert provider.api_key is not None
    return provider.api_key.get_secret_value()


def secret_file(folder: Path, data: bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(data)
    path.chmod(mode)
    return path


class Shelf:
    """A vault of a dict that counts what it is asked, and keeps the settings that it was opened with."""

    def __init__(self, **secrets: str) -> None:
        self.secrets = secrets
        self.asked: list[str] = []
        self.opened_with: list[AwsSettings] = []

    def open(self, settings: AwsSettings) -> Vault:
        self.opened_with.append(settings)
        return self.look_up

    def look_up(self, name: str) -> str:
        self.asked.append(name)
        if name not in self.secrets:
            raise SettingsError(f"the shelf has no {name!r}")
        return self.secrets[name]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n"])
def test_a_file_stands_for_its_text_without_the_line_end(tmp_path: Path, end: bytes) -> None:
    path = secret_file(tmp_path, SECRET.encode() + end)
    assert key_of(load(written(tmp_path, f"${{file:{path}}}"), {})) == SECRET


def test_a_reference_may_be_part_of_a_value(tmp_path: Path) -> None:
    path = secret_file(tmp_path, b"inner ")
    assert key_of(load(written(tmp_path, f"<${{file:{path}}}|${{WHO}}>"), {"WHO": "me"})) == "<inner |me>"


def test_what_a_secret_holds_is_not_looked_into(tmp_path: Path) -> None:
    path = secret_file(tmp_path, b"${HOME} ${file:/etc/passwd}")
    assert key_of(load(written(tmp_path, f"${{file:{path}}}"), {"HOME": "/root"})) == "${HOME} ${file:/etc/passwd}"


def directory(folder: Path) -> Path:
    return folder


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "absent", "No such file"),
        (directory, "is not a file"),
        (pipe, "is not a file"),
        (lambda folder: secret_file(folder, b"\n"), "is empty"),
        (lambda folder: secret_file(folder, b"\xff\xfe\x00"), "UTF-8"),
        (lambda folder: secret_file(folder, b"x" * 70_000), "larger than 65536 bytes"),
        (lambda _: Path("run/secrets/key"), "whole path"),
    ],
    ids=["absent", "a folder", "a pipe that nobody writes to", "empty", "binary", "huge", "relative"],
)
def test_a_file_that_cannot_be_a_secret_is_named_with_its_setting(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    path = make(tmp_path)
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, f"${{file:{path}}}"), {})
    assert caught.value.message.startswith("providers.one.api_key: ")
    assert said in caught.value.message
    assert str(path) in caught.value.message


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_everyone_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool) -> None:  # noqa: FBT001 - pytest hands it in
    path = secret_file(tmp_path, SECRET.encode(), mode)
    with caplog.at_level(logging.WARNING):
        load(written(tmp_path, f"${{file:{path}}}"), {})
    assert (str(path) in caplog.text) is warned
    assert SECRET not in caplog.text


def test_a_vault_is_asked_once_for_each_secret_and_not_at_all_for_none(tmp_path: Path) -> None:
    shelf = Shelf(key=SECRET)
    secrets = Secrets({"shelf": shelf.open})
    load(None, {}, {}, secrets)
    assert shelf.opened_with == []
    path = written(tmp_path, "${shelf:key}", telemetry={"otlp_headers": {"a": "${shelf:key}", "b": "Bearer ${shelf:key}"}})
    assert key_of(load(path, {}, {}, secrets)) == SECRET
    assert key_of(load(path, {}, {}, secrets)) == SECRET
    assert (shelf.asked, len(shelf.opened_with)) == (["key"], 1)
    assert secrets.found == {"shelf:key": SECRET}


def test_what_an_earlier_load_found_is_not_asked_for_again(tmp_path: Path) -> None:
    shelf = Shelf()
    text = written(tmp_path, "${shelf:key}").read_text(encoding="utf-8")
    assert key_of(load_text(text, {}, {}, Secrets({"shelf": shelf.open}, {"shelf:key": SECRET}))) == SECRET
    assert shelf.asked == []


def test_a_new_load_sees_the_rotated_secret(tmp_path: Path) -> None:
    shelf = Shelf(key="old-value")
    path = written(tmp_path, "${shelf:key}")
    assert key_of(load(path, {}, {}, Secrets({"shelf": shelf.open}))) == "old-value"
    shelf.secrets["key"] = SECRET
    assert key_of(load(path, {}, {}, Secrets({"shelf": shelf.open}))) == SECRET


def test_a_vault_is_opened_with_the_section_aws_however_it_was_given(tmp_path: Path) -> None:
    shelf = Shelf(key=SECRET)
    path = written(tmp_path, "${shelf:key}", aws={"region": "${REGION}", "timeout_s": 3})
    load(path, {"REGION": "eu-west-1", "FARTHING_AWS__PROFILE": "ops"}, {}, Secrets({"shelf": shelf.open}))
    assert shelf.opened_with == [AwsSettings(region="eu-west-1", timeout_s=3, profile="ops")]


@pytest.mark.parametrize("section", [{"region": "nowhere"}, {"regoin": "eu-west-1"}, ["eu-west-1"]])
def test_a_wrong_section_aws_is_told_before_any_vault_is_asked(tmp_path: Path, section: Any) -> None:
    shelf = Shelf(key=SECRET)
    with pytest.raises(SettingsError, match=r"aws"):
        load(written(tmp_path, "${shelf:key}", aws=section), {}, {}, Secrets({"shelf": shelf.open}))
    assert shelf.asked == []


def test_a_secret_that_is_missing_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^providers\.one\.api_key: the shelf has no 'other'$"):
        load(written(tmp_path, "${shelf:other}"), {}, {}, Secrets({"shelf": Shelf(key=SECRET).open}))


def test_an_unknown_scheme_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no \$\{valut:…\}; known: file, shelf"):
        load(written(tmp_path, "${valut:key}"), {}, {}, Secrets({"shelf": Shelf().open}))


def test_secrets_are_masked_even_in_settings_that_are_not_for_secrets(tmp_path: Path) -> None:
    secrets = Secrets({"shelf": Shelf(key=SECRET, short="abc").open})
    telemetry = {"otlp_endpoint": "https://${shelf:key}.example/v1", "log_level": "info"}
    settings = load(written(tmp_path, "${shelf:short}", telemetry=telemetry), {}, {}, secrets)
    shown = effective(settings, secrets)
    assert SECRET not in shown
    assert "https://**********.example/v1" in shown
    assert masked(settings, secrets)["telemetry"]["log_level"] == "info"


def test_a_mistake_in_the_yaml_does_not_show_the_line(tmp_path: Path) -> None:
    path = tmp_path / "farthing.yaml"
    path.write_text(f"providers:\n  one: {{kind: openai_compatible, api_key: {SECRET}, base_url: [}}\n", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load(path, {})
    assert SECRET not in str(caught.value)
    assert "line 2" in caught.value.message
