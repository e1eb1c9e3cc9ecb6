"""Applications that use the official SDKs, with the SDKs' own retries, and write down each HTTP request that these make."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import anthropic
import httpx2
import openai

from soaking.facts import Ask, Tenant, Try

TIMEOUT_S = 45.0
MAX_TOKENS = 96
_LIMIT_CODES = frozenset({"insufficient_quota", "rate_limit_exceeded", "budget_unverified"})
_ASK = "x-farthing-task-type"
"""What the ledger keeps with each row and nothing else looks at."""
_USERS = 50
_Error = openai.APIError | anthropic.APIError


class _Body(httpx2.AsyncByteStream):
    """The body of an answer; notes when it has come to its end."""

    def __init__(self, body: httpx2.AsyncByteStream, tried: Try) -> None:
        self._body = body
        self._tried = tried

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body:
                yield piece
            self._tried.complete = True
        except httpx2.TransportError as failed:
            self._tried.error = type(failed).__name__
            raise
        finally:
            self._tried.ended = time.monotonic()

    async def aclose(self) -> None:
        await self._body.aclose()


class _Watched(httpx2.AsyncBaseTransport):
    """Writes down each request as a `Try` of the question that its header `x-farthing-task-type` names."""

    def __init__(self, asks: dict[str, Ask]) -> None:
        # Connections are given up soon, so that the load finds its way to all workers, new ones too.
        self._inner = httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_connections=2000, keepalive_expiry=2.0))
        self._asks = asks

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        tried = Try(at=time.monotonic())
        self._asks[request.headers[_ASK]].tries.append(tried)
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TransportError as failed:
            tried.ended, tried.error, tried.retry = time.monotonic(), type(failed).__name__, True
            raise
        headers = response.headers
        tried.status, tried.request_id = response.status_code, headers.get("x-farthing-request-id")
        tried.source = headers.get("x-farthing-source")
        tried.ours = "x-farthing-limit" in headers
        should = headers.get("x-should-retry")
        tried.retry = should == "true" if should else tried.status in {408, 409, 429} or tried.status >= 500
        if (cost := headers.get("x-farthing-cost-usd")) is not None:
            tried.cost = int(cost.replace(".", ""))
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Body(response.stream, tried)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class Callers:
    """One application per tenant. `asks` is everything asked so far, by id."""

    def __init__(self, url: str, tenants: list[Tenant]) -> None:
        self.asks: dict[str, Ask] = {}
        self._openai: dict[str, openai.AsyncOpenAI] = {}
        self._anthropic: dict[str, anthropic.AsyncAnthropic] = {}
        for tenant in tenants:
            client = httpx2.AsyncClient(transport=_Watched(self.asks), timeout=TIMEOUT_S)
            self._openai[tenant.name] = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=tenant.key, http_client=client)
            self._anthropic[tenant.name] = anthropic.AsyncAnthropic(base_url=url, api_key=tenant.key, http_client=client)

    async def close(self) -> None:
        for client in self._openai.values():
            await client.close()

    async def ask(self, ask: Ask) -> None:
        """Ask, and write down what came of it. Never raises but for a cancellation."""
        self.asks[ask.id] = ask
        try:
            whole = await self._call(ask)
            ask.outcome = "answered" if whole else "silent"
        except (openai.APIError, anthropic.APIError) as error:
            _judge(ask, error)
        except httpx2.TransportError as error:
            ask.outcome, ask.code = "cut", type(error).__name__
        except asyncio.CancelledError:
            ask.outcome, ask.code = "lost", "no answer until the end of the run"
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            ask.outcome, ask.code = "lost", repr(error)[:200]
        ask.ended = time.monotonic()

    async def _call(self, ask: Ask) -> bool:
        """Leaves the text in the question. Returns whether the answer said that it is whole."""
        return await {"chat": self._chat, "responses": self._responses, "messages": self._messages}[ask.door](ask)

    async def _chat(self, ask: Ask) -> bool:
        create = self._openai[ask.tenant].chat.completions.create
        common = {
            "model": ask.model,
            "max_tokens": MAX_TOKENS if ask.model != "local" else 8,
            "messages": [{"role": "user", "content": ask.question}],
            "metadata": {"ask": ask.id},
            "extra_headers": _headers(ask),
        }
        if not ask.stream:
            answer = await create(**common)  # type: ignore[call-overload]  # one set of arguments for both shapes
            ask.text = answer.choices[0].message.content or ""
            return answer.choices[0].finish_reason is not None
        finished = False
        stream = await create(**common, stream=True)  # type: ignore[call-overload]  # the same
        async for chunk in stream:
            for choice in chunk.choices:
                ask.text += choice.delta.content or ""
                finished = finished or choice.finish_reason is not None
        return finished

    async def _responses(self, ask: Ask) -> bool:
        create = self._openai[ask.tenant].responses.create
        common = {
            "model": ask.model,
            "input": ask.question,
            "max_output_tokens": MAX_TOKENS,
            "extra_headers": _headers(ask),
        }
        if not ask.stream:
            answer = await create(**common)  # type: ignore[call-overload]  # as above
            ask.text = answer.output_text
            return bool(answer.status == "completed")
        finished = False
        async for event in await create(**common, stream=True):  # type: ignore[call-overload]  # as above
            if event.type == "response.output_text.delta":
                ask.text += event.delta
            elif event.type in {"error", "response.failed"}:
                ask.code = event.type
                raise openai.APIError("the stream broke", request=httpx2.Request("POST", "/v1/responses"), body=None)
            finished = finished or event.type == "response.completed"
        return finished

    async def _messages(self, ask: Ask) -> bool:
        create = self._anthropic[ask.tenant].messages.create
        common = {
            "model": ask.model,
            "max_tokens": MAX_TOKENS,
            "messages": [{"role": "user", "content": ask.question}],
            "extra_headers": _headers(ask),
        }
        if not ask.stream:
            answer = await create(**common)  # type: ignore[call-overload]  # as above
            ask.text = "".join(block.text for block in answer.content if block.type == "text")
            return answer.stop_reason is not None
        finished = False
        async for event in await create(**common, stream=True):  # type: ignore[call-overload]  # as above
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                ask.text += event.delta.text
            finished = finished or event.type == "message_stop"
        return finished


def _headers(ask: Ask) -> dict[str, str]:
    return {_ASK: ask.id, "x-farthing-user": f"user-{int(ask.at * 1000) % _USERS}"}


def _judge(ask: Ask, error: _Error) -> None:
    """Which end it is that the SDK raised."""
    last = ask.tries[-1] if ask.tries else None
    headed = last is not None and last.status == 200
    if isinstance(error, openai.APIConnectionError | anthropic.APIConnectionError):
        ask.outcome, ask.code = ("cut" if headed and ask.stream else "exhausted"), (last.error if last else None) or type(error).__name__
        return
    ask.code = ask.code or _code(error)
    if isinstance(error, openai.APIResponseValidationError | anthropic.APIResponseValidationError):
        ask.outcome = "lost"
    elif headed:
        ask.outcome = "told"
    elif ask.code in _LIMIT_CODES and last is not None and (ask.code != "rate_limit_exceeded" or last.ours):
        ask.outcome = "refused"
    else:
        ask.outcome = "exhausted" if last is not None and last.retry else "lost"


def _code(error: _Error) -> str:
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict):
            details = inner.get("details")
            if isinstance(details, dict) and details.get("error_code"):
                return str(details["error_code"])
            return str(inner.get("code") or inner.get("type") or inner.get("message"))[:100]
    return (getattr(error, "message", "") or type(error).__name__)[:100]
