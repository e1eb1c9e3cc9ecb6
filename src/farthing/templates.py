"""Templates of the settings: a text with places for values, `{user}`, `{data.path}` or `{context.NAME}`, and nothing else.

There are no expressions, attributes or filters, so that no value can do anything but stand there. `{{` and `}}` are braces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, Final
from urllib.parse import quote

import msgspec

_PART = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}|[{}]|[^{}]+")
PATH: Final = r"data(?:\.[A-Za-z0-9_-]{1,64}){1,8}"
"""Where something is in an event's data: names of fields, and numbers in arrays."""
_PATH = re.compile(PATH)
_CUT = "…"
_UNSAFE = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029", 0x7F: "\\u007f"}
"""What could end an element around the value, or a line of it, is written in JSON's other way."""
_LONGEST_IN_URL = 256
_encode = msgspec.json.Encoder().encode


class WrongTemplate(ValueError):
    """It cannot be read, or names something that there is not."""


class UnfitValue(ValueError):
    """A value that cannot stand in a URL: none, empty, too long, an object, or a step up in the path."""


class Template:
    """A text with places for values. `names` are the places, each once, in their order. Raises `WrongTemplate`."""

    def __init__(self, text: str, *, contexts: Collection[str] = ()) -> None:
        self._parts: list[tuple[str, str | None]] = []  # text before, name of the place after
        before = ""
        for match in _PART.finditer(text):
            part = match[0]
            if part in {"{{", "}}"}:
                before += part[0]
            elif match["name"] is not None:
                self._parts.append((before, _known(match["name"], contexts)))
                before = ""
            elif part in {"{", "}"}:
                raise WrongTemplate(f"a single {part!r}: write {part * 2!r} for a brace")
            else:
                before += part
        self._parts.append((before, None))
        self.names = tuple(dict.fromkeys(name for _, name in self._parts if name is not None))

    @property
    def head(self) -> str:
        """The text before the first place."""
        return self._parts[0][0]

    def render(self, value: Callable[[str], str]) -> str:
        """The text with what `value` says of each place."""
        return "".join(before + ("" if name is None else value(name)) for before, name in self._parts)


def _known(name: str, contexts: Collection[str]) -> str:
    kind, _, rest = name.partition(".")
    if name == "user" or _PATH.fullmatch(name) or (kind == "context" and rest in contexts):
        return name
    known = ", ".join(["{user}", "{data.FIELD}", *(f"{{context.{one}}}" for one in sorted(contexts))])
    raise WrongTemplate(f"there is no {{{name[:64]}}}; known: {known}")


def at(data: Any, path: str) -> Any:
    """What is at a path (see `PATH`) in an event's data; None where there is nothing."""
    found = data
    for step in path.split(".")[1:]:
        if isinstance(found, dict):
            found = found.get(step)
        elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found


def quoted(value: Any, most: int) -> str:
    """A value as data in a prompt: JSON in which nothing can end a quotation, an element or a line. Cut to about `most` characters."""
    text = _encode(value).decode()
    if len(text) > most:
        whole = value if isinstance(value, str) else text
        text = _encode(whole[: max(most, 1)] + _CUT).decode()
    return text.translate(_UNSAFE)


def in_url(value: Any) -> str:
    """A value as one segment of a path, or as one value of a query. Raises `UnfitValue`."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UnfitValue("it is no text and no whole number")
    text = str(value)
    if text in {"", ".", ".."} or len(text) > _LONGEST_IN_URL:
        raise UnfitValue(f"it must have 1 to {_LONGEST_IN_URL} characters, and not be a dot or two")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise UnfitValue("it holds half a surrogate pair") from None
