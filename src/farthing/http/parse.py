"""From bytes to a request: JSON, types, and the extras of Farthing's own. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from farthing.errors import InvalidRequest
from farthing.http.generate_types import GenerateBody
from farthing.http.messages_types import CountBody, MessagesBody
from farthing.http.openai_types import ChatBody, CompletionBody, EmbeddingsBody
from farthing.http.responses.body import ResponsesBody
from farthing.types import Extras, Json

_plain = msgspec.json.Decoder().decode
_chat = msgspec.json.Decoder(ChatBody).decode
_embeddings = msgspec.json.Decoder(EmbeddingsBody).decode
_responses = msgspec.json.Decoder(ResponsesBody).decode
_completions = msgspec.json.Decoder(CompletionBody).decode
_messages = msgspec.json.Decoder(MessagesBody).decode
_count = msgspec.json.Decoder(CountBody).decode
_object = msgspec.json.Decoder(Json).decode
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$?\.?(?P<where>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"required field `(?P<name>[^`]+)`")
_HEADER = b"x-farthing-"
_SWITCHES = {"true": True, "false": False, "1": True, "0": False}
_LONGEST_NAME = 256
_MOST_TAGS = 16
_LATER = ("knowledge", "dry_run")
_MOST_PROMPTS = 2048
_LONGEST_COMPLAINT = 1000
_MOST_NESTED = 128
_TOO_DEEP = f"the body is nested too deeply: more than {_MOST_NESTED} arrays and objects inside of each other"
_TO_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_STRING = re.compile(rb'"[^"]*"')


def chat(data: bytes) -> tuple[ChatBody, Json]:
    """A chat body, typed and as it came. Raises `InvalidRequest` naming the field."""
    typed, body = _parse(data, _chat)
    if not typed.messages:
        raise InvalidRequest("messages is empty: send at least one message", param="messages")
    return typed, body


def embeddings(data: bytes) -> tuple[EmbeddingsBody, Json]:
    """An embeddings body, typed and as it came."""
    typed, body = _parse(data, _embeddings)
    if not typed.input or (isinstance(typed.input, list) and len(typed.input) > _MOST_PROMPTS):
        raise InvalidRequest(f"input must hold 1 to {_MOST_PROMPTS} texts, none of them empty", param="input")
    if typed.encoding_format not in {None, "float", "base64"}:
        raise InvalidRequest("encoding_format must be 'float' or 'base64'", param="encoding_format")
    return typed, body


def responses(data: bytes) -> tuple[ResponsesBody, Json]:
    """A body of /v1/responses, typed and as it came."""
    return _parse(data, _responses)


def completions(data: bytes) -> tuple[CompletionBody, Json]:
    """A body of /v1/completions, typed and as it came."""
    return _parse(data, _completions)


def messages(data: bytes) -> tuple[MessagesBody, Json]:
    """A Messages body (Anthropic's), typed and as it came."""
    return _parse(data, _messages)


def count_tokens(data: bytes) -> tuple[CountBody, Json]:
    """A body whose tokens are to be counted, typed and as it came."""
    return _parse(data, _count)


def json_object(data: bytes) -> Json:
    """Any JSON object."""
    found: Json = _parse(data, _object)[1]
    return found


def generate(body: Json) -> GenerateBody:
    """The body of our own door, where a field that we do not know is refused."""
    known = GenerateBody.__struct_fields__
    for name in body:
        if name == "model":
            raise InvalidRequest("model: this door chooses it (settings generate); name one at /v1/chat/completions", param="model")
        if name not in known:
            close = difflib.get_close_matches(name[:64], known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise InvalidRequest(f"{name[:64]}: there is no such field; {hint}", param=name[:64])
    try:
        return msgspec.convert(body, GenerateBody)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None


def _parse(data: bytes, decode: Any) -> tuple[Any, Json]:
    if not data.strip():
        raise InvalidRequest("the request has no body: send a JSON object")
    try:
        typed, body = decode(data), _plain(data)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest(_TOO_DEEP) from None
    if _nested_too_deeply(data):
        raise InvalidRequest(_TOO_DEEP)
    return typed, body


def _nested_too_deeply(data: bytes) -> bool:
    """Whether a good JSON document is deeper than what every later reader of it can follow (Python's stack is not endless)."""
    if data.count(b"[") + data.count(b"{") <= _MOST_NESTED:
        return False
    skeleton = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_TO_BRACKETS, _NOT_STRUCTURE)
    skeleton = _STRING.sub(b"", skeleton)
    for _ in range(_MOST_NESTED):
        if not skeleton:
            return False
        skeleton = skeleton.replace(b"[]", b"")
    return bool(skeleton)


def _invalid(text: str) -> InvalidRequest:
    text = text if len(text) <= _LONGEST_COMPLAINT else f"{text[:_LONGEST_COMPLAINT]}…"  # it may quote the caller
    match = _AT.match(text)
    what = match["what"] if match else text
    where = (match["where"] if match else None) or None
    missing = _MISSING.search(what)
    if missing:
        where = f"{where}.{missing['name']}" if where else missing["name"]
        return InvalidRequest(f"{where} is missing", param=where)
    return InvalidRequest(f"{where or 'the body'}: {what[:1].lower()}{what[1:]}".replace("`", ""), param=where)


def extras(given: Json | None, headers: Iterable[tuple[bytes, bytes]]) -> Extras:
    """The field `farthing` over the headers `x-farthing-*`. Raises `InvalidRequest` for a name or value that is not known."""
    merged: Json = {}
    for key, value in headers:
        if key.startswith(_HEADER):
            option = str(key[len(_HEADER) :], "latin-1").replace("-", "_")
            merged[option] = _header_value(option, str(value, "latin-1"))
    if given:
        merged.update(given)
    if not merged:
        return _NO_EXTRAS
    for name in merged:
        if name not in Extras.__struct_fields__:
            close = difflib.get_close_matches(name[:64], Extras.__struct_fields__, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(Extras.__struct_fields__)}"
            raise InvalidRequest(f"farthing.{name[:64]}: there is no such option; {hint}", param=f"farthing.{name[:64]}")
    try:
        found = msgspec.convert(merged, Extras)
    except msgspec.ValidationError as error:
        raise _invalid(str(error).replace("`$.", "`$.farthing.")) from None
    _check(found)
    return found


_NO_EXTRAS = Extras()


def _header_value(name: str, value: str) -> Any:
    if name == "tags":
        return [tag.strip() for tag in value.split(",")]
    if name == "route" and value.startswith("{"):
        return _route(value)
    return _SWITCHES.get(value.lower(), value) if name in {"dry_run", "memory", "knowledge", "store", "personal"} else value


def _route(value: str) -> Json:
    """Options in a header are JSON, as they would be in the body."""
    try:
        return _object(value.encode("latin-1"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the header x-farthing-route is not JSON: {error}", param="farthing.route") from None


def _check(found: Extras) -> None:
    for name in ("namespace", "user", "task_type", "prompt", "action", "conversation_id"):
        value = getattr(found, name)
        if value is not None and not (1 <= len(value) <= _LONGEST_NAME and value.isprintable()):
            raise InvalidRequest(f"farthing.{name} must have 1 to {_LONGEST_NAME} printable characters", param=f"farthing.{name}")
    if len(found.tags) > _MOST_TAGS or not all(1 <= len(tag) <= _LONGEST_NAME and tag.isprintable() for tag in found.tags):
        raise InvalidRequest(
            f"farthing.tags: at most {_MOST_TAGS} tags of 1 to {_LONGEST_NAME} printable characters each", param="farthing.tags"
        )
    for name in _LATER:
        if getattr(found, name) not in (None, False, "off"):
            raise InvalidRequest(f"farthing.{name} is not available in this version of Farthing", param=f"farthing.{name}")
