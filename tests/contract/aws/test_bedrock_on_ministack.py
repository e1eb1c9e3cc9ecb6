"""Bedrock as an emulator speaks it that verifies signatures and asks a real model."""

from __future__ import annotations

import http.server
import socket
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from account import REGION, someone

from farthing.app_catalogue import provider_of
from farthing.aws.credentials import GivenCredentials, Keys
from farthing.aws.signing import SigV4Signer
from farthing.errors import UpstreamRefusedUs, UpstreamRejected
from farthing.pipeline.stream import Fold
from farthing.ports import Call, Provider
from farthing.providers.local.supervisor import ChatEngine, ChatServer
from farthing.providers.local.weights import SMOLLM2, locate
from farthing.settings import BedrockSettings
from farthing.testing.aws import Ministack
from farthing.types import Json, Usage, new_id

pytestmark = pytest.mark.asyncio(loop_scope="module")
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
FOUNDATION = f"arn:aws:bedrock:{REGION}::foundation-model/amazon.nova-lite-v1:0"


class WithTheKey(http.server.BaseHTTPRequestHandler):
    """Hands requests on to the local model with the key that it wants and that the emulator has no place for."""

    target = ""
    key = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.key}"}
        with urllib.request.urlopen(urllib.request.Request(self.target + self.path, body, headers), timeout=60) as answer:  # noqa: S310 - our own server
            data = answer.read()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chat() -> AsyncIterator[str]:
    """The local model, as the emulator wants it: without a key."""
    model = ChatServer(ChatEngine(model=locate(SMOLLM2), alias=SMOLLM2.name, parallel=2, context=1024))
    await model.start()
    await model.wait_ready(30)
    handler = type("Handler", (WithTheKey,), {"target": model.base_url.removesuffix("/v1"), "key": model.api_key})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    await model.aclose()


@pytest.fixture(scope="module")
def aws(chat: str) -> Iterator[Ministack]:
    with Ministack("bedrock-runtime,iam,sts", auth=True, chat_url=chat) as running:
        yield running


@pytest.fixture(scope="module")
def keys(aws: Ministack) -> Keys:
    return someone(aws, "bedrock:*")


def bedrock(aws: Ministack, keys: Keys, **more: Any) -> Provider:
    given = {"kind": "bedrock", "region": REGION, "base_url": aws.url}
    identity = {"access_key_id": keys.access_key_id, "secret_access_key": keys.secret_access_key}
    return provider_of("up", BedrockSettings.model_validate({**given, **identity, **more}))


@pytest_asyncio.fixture(loop_scope="module")
async def provider(aws: Ministack, keys: Keys) -> AsyncIterator[Provider]:
    made = bedrock(aws, keys)
    yield made
    await made.aclose()


def call(text: str, model: str = CLAUDE, **more: Any) -> Call:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0, **more}
    return Call(upstream_model=model, body=body, request_id=new_id())


async def streamed(provider: Provider, one: Call) -> Json:
    fold = Fold()
    counted = None
    async for chunk, usage in provider.stream(one):
        if chunk is not None:
            fold.add(chunk)
        counted = usage or counted
    return fold.body(counted)


def listening(port: int) -> set[str]:
    """Addresses on which somebody listens on this port, as proc(5) writes them."""
    sockets = [line.split() for file in ("tcp", "tcp6") for line in Path(f"/proc/net/{file}").read_text(encoding="ascii").splitlines()[1:]]
    return {local for _, local, _, state, *_ in sockets if state == "0A" and local.endswith(f":{port:04X}")}


async def test_the_emulator_listens_on_the_loopback_interface_only(aws: Ministack) -> None:
    assert listening(aws.port) == {f"0100007F:{aws.port:04X}"}


@pytest.mark.parametrize("model", [CLAUDE, FOUNDATION, "amazon.nova-micro-v1:0"], ids=["profile", "arn", "id"])
async def test_a_signed_question_is_answered_by_the_model(provider: Provider, model: str) -> None:
    body = (await provider.chat(call("Say hi.", model))).body
    assert body["choices"][0]["message"]["content"]
    assert "mock" not in body["choices"][0]["message"]["content"], "the emulator did not reach the model"
    usage = Usage.of(body["usage"])
    assert usage is not None
    assert usage.output <= 8 < usage.input


async def test_a_stream_says_what_a_whole_answer_says(provider: Provider) -> None:
    one = call("Name a colour.")
    whole, stream = (await provider.chat(one)).body, await streamed(provider, one)
    assert stream["choices"][0]["message"]["content"] == whole["choices"][0]["message"]["content"]
    assert stream["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]


async def test_a_history_with_tools_is_understood(provider: Provider) -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look."},
        {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
    ]
    body = (await provider.chat(call("", messages=history, tools=tools))).body
    assert body["choices"][0]["finish_reason"] in {"stop", "tool_calls", "length"}


async def test_a_signature_by_another_key_is_refused(aws: Ministack, keys: Keys) -> None:
    provider = bedrock(aws, keys, secret_access_key="of somebody else")
    with pytest.raises(UpstreamRefusedUs, match=r"providers\.up"):
        await provider.chat(call("Hi"))
    await provider.aclose()


async def test_whoever_may_not_use_bedrock_is_refused(aws: Ministack) -> None:
    provider = bedrock(aws, someone(aws, "s3:*"))
    with pytest.raises(UpstreamRefusedUs, match="AccessDenied"):
        await provider.chat(call("Hi"))
    await provider.aclose()


async def test_a_model_of_another_region_is_rejected_in_the_vendors_words(provider: Provider) -> None:
    with pytest.raises(UpstreamRejected, match="modelId"):
        await provider.chat(call("Hi", "arn:aws:bedrock:eu-west-1::foundation-model/amazon.nova-lite-v1:0"))


async def test_a_body_that_was_changed_on_the_way_is_refused(aws: Ministack, keys: Keys) -> None:
    signer = SigV4Signer(GivenCredentials(keys), service="bedrock", region=REGION)
    path = f"/model/{CLAUDE.replace(':', '%3A')}/converse"
    body = b'{"messages": [{"role": "user", "content": [{"text": "Hi"}]}], "inferenceConfig": {"maxTokens": 4}}'
    headers = {"host": f"127.0.0.1:{aws.port}", "content-type": "application/json"}
    signed = await signer.sign("POST", aws.url + path, headers, body)
    statuses = []
    for sent in (body, body.replace(b"Hi", b"Ho")):
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **signed, "content-length": str(len(sent))}.items())
        with socket.create_connection(("127.0.0.1", aws.port), timeout=30) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\n{lines}connection: close\r\n\r\n".encode() + sent)
            statuses.append(int(connection.makefile("rb").readline().split()[1]))
    assert statuses == [200, 403]
