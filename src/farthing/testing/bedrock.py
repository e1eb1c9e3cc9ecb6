"""Amazon Bedrock's wire, for what an emulator cannot do: throttling, exceptions in mid-stream, cut streams, usage of the prompt cache."""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from farthing.testing.echo import Received
from farthing.testing.replies import Reply
from farthing.testing.vendors import Asked, Feature, Said, Tokens, text_of
from farthing.types import Json

_NAMES = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}
_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_MEDIA = {"png": "image/png", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}


def message(payload: bytes, **headers: str) -> bytes:
    """A message of an event stream; underscores in the names of headers stand for `-`, and each gets its `:` in front."""
    block = b"".join(_header(":" + name.replace("_", "-"), value) for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + block + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def _header(name: str, value: str) -> bytes:
    return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()


def event(kind: str, **fields: Any) -> bytes:
    """An event of ConverseStream. Like the real one it is padded with a field `p` of random length."""
    payload = msgspec.json.encode({**fields, "p": "abcdefgh"[: len(kind) % 8]})
    return message(payload, event_type=kind, content_type="application/json", message_type="event")


def exception(kind: str, text: str) -> bytes:
    """An exception in the middle of a stream, such as `throttlingException`."""
    return message(msgspec.json.encode({"message": text}), exception_type=kind, content_type="application/json", message_type="exception")


def failure(status: int, name: str | None, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    """An error by its name. None: one that does not come from Bedrock itself but from something on the way."""
    named = {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"} if name else {}
    return Reply(status=status, json={"message": text}, headers={**named, "x-amzn-requestid": "0", **(headers or {})})


def usage(tokens: Tokens) -> Json:
    """Bedrock's count: what the prompt cache read and wrote is not part of the input."""
    whole: Json = {"inputTokens": tokens.plain, "outputTokens": tokens.output, "totalTokens": tokens.input + tokens.output}
    if tokens.cache_read or tokens.cache_write:
        whole |= {"cacheReadInputTokens": tokens.cache_read, "cacheWriteInputTokens": tokens.cache_write}
    return whole


class BedrockVendor:
    """See `farthing.testing.vendors.Vendor`. Embeddings have no common form there: each family of models has its own."""

    features: frozenset[Feature] = frozenset({"schema", "reasoning", "cache_read", "cache_write", "images", "error_event", "end_mark"})
    stream_headers: Mapping[str, str] = {"content-type": "application/vnd.amazon.eventstream"}

    def whole(self, said: Said) -> Reply:
        """See `Vendor.whole`."""
        blocks: list[Json] = []
        if said.reasoning:
            blocks.append({"reasoningContent": {"reasoningText": {"text": "".join(said.reasoning), "signature": "c2lnbmVk"}}})
        if said.texts:
            blocks.append({"text": "".join(said.texts)})
        for at, (name, arguments) in enumerate(said.calls):
            blocks.append({"toolUse": {"toolUseId": f"tooluse_{at}", "name": name, "input": msgspec.json.decode(arguments)}})
        output = {"message": {"role": "assistant", "content": blocks}}
        counted = usage(said.tokens)
        return Reply(json={"output": output, "stopReason": _STOP[said.reason], "usage": counted, "metrics": {"latencyMs": 1}})

    def events(self, said: Said) -> tuple[list[bytes], list[bytes]]:
        """See `Vendor.events`."""
        found = [event("messageStart", role="assistant")]
        block = 0
        if said.reasoning:
            found += [event("contentBlockDelta", contentBlockIndex=0, delta={"reasoningContent": {"text": one}}) for one in said.reasoning]
            found.append(event("contentBlockDelta", contentBlockIndex=0, delta={"reasoningContent": {"signature": "c2lnbmVk"}}))
            found.append(event("contentBlockStop", contentBlockIndex=0))
            block = 1
        if said.texts:
            found += [event("contentBlockDelta", contentBlockIndex=block, delta={"text": one}) for one in said.texts]
        after = [event("contentBlockStop", contentBlockIndex=block)] if said.texts else []
        for at, (name, arguments) in enumerate(said.calls, block + 1):
            pieces = [] if arguments == "{}" else [arguments[:3], arguments[3:]]
            start = {"toolUse": {"toolUseId": f"tooluse_{at}", "name": name}}
            found += [*after, event("contentBlockStart", contentBlockIndex=at, start=start)]
            found += [event("contentBlockDelta", contentBlockIndex=at, delta={"toolUse": {"input": one}}) for one in pieces]
            after = [event("contentBlockStop", contentBlockIndex=at)]
        end = event("messageStop", stopReason=_STOP[said.reason])
        return found, [*after, end, event("metadata", usage=usage(said.tokens), metrics={"latencyMs": 1})]

    def failure(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        """See `Vendor.failure`."""
        return failure(status, _NAMES.get(status), message, headers)

    def error_event(self, message: str) -> bytes:
        """See `Vendor.error_event`."""
        return exception("internalServerException", message)

    def vectors(self, count: int, dimensions: int) -> Reply:
        """Titan's answer: `count` must be 1."""
        assert count == 1
        return Reply(json={"embedding": [1.0] + [0.0] * (dimensions - 1), "inputTextTokenCount": 4})

    def asked(self, received: Received) -> Asked:
        """See `Vendor.asked`."""
        _, _, model, operation = received.path.split("/")
        body = received.body
        blocks = [(one["role"], block) for one in body["messages"] for block in one["content"]]
        config, tools = body.get("inferenceConfig") or {}, body.get("toolConfig") or {}
        form = (body.get("outputConfig") or {}).get("textFormat")
        return Asked(
            model=unquote(model),
            stream=operation == "converse-stream",
            system=text_of(body.get("system")),
            turns=_turns(body["messages"]),
            calls=tuple((use["toolUseId"], use["name"], use["input"]) for _, block in blocks if (use := block.get("toolUse"))),
            results=tuple((one["toolUseId"], text_of(one["content"])) for _, block in blocks if (one := block.get("toolResult"))),
            tools={one["toolSpec"]["name"]: one["toolSpec"]["inputSchema"]["json"] for one in tools.get("tools", ())},
            tool_choice=_choice(tools.get("toolChoice")),
            schema=msgspec.json.decode(form["structure"]["jsonSchema"]["schema"]) if form else None,
            images=tuple((_MEDIA[one["format"]], one["source"]["bytes"]) for _, block in blocks if (one := block.get("image"))),
            max_tokens=config.get("maxTokens"),
            temperature=config.get("temperature"),
            stop=tuple(config.get("stopSequences", ())),
        )


def _turns(messages: list[Json]) -> tuple[tuple[str, str], ...]:
    return tuple((one["role"], text) for one in messages if (text := text_of(one["content"])))


def _choice(choice: Json | None) -> str | None:
    if choice is None or "auto" in choice:
        return None
    return choice["tool"]["name"] if "tool" in choice else "required"


def signed_by(received: Received, secret_access_key: str, *, service: str, region: str, path: str | None = None) -> bool:
    """Whether the signature is what AWS would compute (AWS, "Create a signed AWS API request"): written anew, not with botocore."""
    scheme, _, rest = received.headers["authorization"].partition(" ")
    fields = dict(part.strip().split("=", 1) for part in rest.split(","))
    _, day, *scope = fields["Credential"].split("/")
    if (scheme, scope) != ("AWS4-HMAC-SHA256", [region, service, "aws4_request"]):
        return False
    names = fields["SignedHeaders"].split(";")
    if not {"host", "x-amz-date"} <= set(names) or names != sorted(names):
        return False
    body = received.body if isinstance(received.body, bytes) else msgspec.json.encode(received.body)
    lines = "".join(f"{name}:{received.headers[name].strip()}\n" for name in names)
    target = quote(path or received.path, safe="/-_.~")
    canonical = f"{received.method}\n{target}\n\n{lines}\n{fields['SignedHeaders']}\n{hashlib.sha256(body).hexdigest()}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{received.headers['x-amz-date']}\n{day}/{region}/{service}/aws4_request\n{digest}"
    key = f"AWS4{secret_access_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.compare_digest(hmac.digest(key, to_sign.encode(), "sha256").hex(), fields["Signature"])
