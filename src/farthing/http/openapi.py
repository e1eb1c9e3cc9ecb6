"""The OpenAPI 3.1 document of the doors, built from the types that parse their bodies."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from farthing import __version__
from farthing.http.admin_budgets import NewBudget
from farthing.http.admin_cache import Explain, Flush, Opinion
from farthing.http.admin_events import Replay
from farthing.http.admin_keys import NewKey
from farthing.http.admin_modes import NewMode, NewPin
from farthing.http.admin_retention import NewRetention
from farthing.http.admin_route import ExplainRoute
from farthing.http.admin_routers import NewVersion, Promote, RouterOpinion
from farthing.http.asgi import Receive, Scope, Send, send_whole
from farthing.http.feedback import FeedbackBody
from farthing.http.generate_types import GenerateBody
from farthing.http.memory import EditMemory
from farthing.http.messages_types import CountBody, MessagesBody
from farthing.http.openai_types import ChatBody, CompletionBody, EmbeddingsBody
from farthing.http.responses.body import ResponsesBody
from farthing.types import Extras, Json, Request

_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_ANTHROPIC_ERROR: Json = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}, "details": {"type": "object"}},
        },
        "request_id": {"type": "string"},
    },
}
_FEEDBACK = ["tenant", "since", "corrected", "limit", "before"]
_TEXT: Json = {"type": "string", "minLength": 1}
_MAYBE: Json = {"anyOf": [_TEXT, {"type": "null"}]}
_CLOUD_EVENT: Json = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        **dict.fromkeys(("id", "source", "type"), _TEXT),
        **dict.fromkeys(("subject", "user", "time", "tenant", "datacontenttype", "dataschema", "data_base64"), _MAYBE),
        "data": {},
    },
}
_CLOUD_EVENTS: Json = {"anyOf": [_CLOUD_EVENT, {"type": "array", "minItems": 1, "items": {}}]}
"""A batch is taken as far as its events are right: of each of them, the schema says nothing."""
_ERRORS = {
    "400": "The request is wrong; the error says where.",
    "401": "No valid key.",
    "403": "The key does not open this door or this model.",
    "404": "No such model, key or door.",
    "405": "Not with this method.",
    "408": "The body did not arrive in time.",
    "409": "Somebody else has changed it in between.",
    "413": "The body is too large.",
    "429": "A limit of the key (see x-farthing-limit) or the provider's; see retry-after.",
    "502": "No deployment answered.",
    "503": "Overloaded or starting; retry.",
    "504": "The provider did not answer in time.",
}

_CLICK: Json = {"text/plain": {"schema": {"type": "string"}}, "application/json": {"schema": {}}}


@cache
def document() -> bytes:
    """The encoded document."""
    spending = [ChatBody, EmbeddingsBody, ResponsesBody, CompletionBody, MessagesBody, CountBody, GenerateBody]
    changes = [NewKey, NewBudget, NewRetention, NewMode, NewPin, NewVersion, Promote]
    bodies = [*spending, *changes, Flush, Explain, ExplainRoute, Opinion, RouterOpinion, EditMemory, FeedbackBody, Replay, Extras]
    _, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    for name in (body.__name__ for body in spending):
        components[name]["properties"]["farthing"] = {"anyOf": [{"$ref": "#/components/schemas/Extras"}, {"type": "null"}]}
    components["GenerateBody"]["additionalProperties"] = False
    chat = {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {"schema": {"type": "string"}}}
    paths: Json = {
        "/v1/chat/completions": {"post": _operation("Create a chat completion", "ChatBody", content=chat)},
        "/v1/embeddings": {"post": _operation("Create embeddings", "EmbeddingsBody")},
        "/v1/responses": {"post": _operation("Create a response", "ResponsesBody", content=chat)},
        "/v1/responses/{id}": {"get": _operation("Retrieve a response", path="id"), "delete": _operation("Delete a response", path="id")},
        "/v1/responses/{id}/input_items": {
            "get": _operation("List what a response was given", path="id", query=["after", "limit", "order"])
        },
        "/v1/completions": {"post": _operation("Create a completion", "CompletionBody", content=chat)},
        "/v1/messages": {"post": _anthropic(_operation("Create a message", "MessagesBody", content=chat))},
        "/v1/messages/count_tokens": {"post": _anthropic(_operation("Estimate the tokens of a message", "CountBody"))},
        "/v1/memory/{user}": {
            "get": _operation("Show what is remembered of a user, and why", path="user", query=["history", "about", "limit", "receipts"]),
            "patch": _operation("Change what is remembered of a user", "EditMemory", path="user"),
            "delete": _operation("Forget a user everywhere", path="user"),
        },
        "/api/v1/generate": {"post": _operation("Generate a text", "GenerateBody", content=chat)},
        "/v1/events": {"post": _operation("Tell what happened", "CloudEvents", status="202")},
        "/v1/feedback": {"post": _operation("Say how good an answer was", "FeedbackBody")},
        "/edge/{action}": {"get": _operation("Answer a click", path="action", query=["user"], content=_CLICK)},
        "/v1/models": {"get": _operation("List models")},
        "/v1/models/{id}": {"get": _operation("Retrieve a model", path="id")},
        "/admin/v1/keys": {"get": _operation("List keys", query=["tenant"]), "post": _operation("Create a key", "NewKey", status="201")},
        "/admin/v1/keys/{id}": {"delete": _operation("Revoke a key", path="id")},
        "/admin/v1/budgets": {
            "get": _operation("List budgets", query=["tenant"]),
            "post": _operation("Set a budget", "NewBudget", status="201"),
        },
        "/admin/v1/budgets/{id}": {"delete": _operation("Delete a budget", path="id")},
        "/admin/v1/cache/flush": {"post": _operation("Flush cached answers", "Flush")},
        "/admin/v1/cache/explain": {"post": _operation("Explain what a cache would do", "Explain")},
        "/admin/v1/cache/verdicts": {"post": _operation("Say whether a cached answer was right", "Opinion")},
        "/admin/v1/cache/stats": {"get": _operation("How the caches do")},
        "/admin/v1/cache/hits": {"get": _operation("List the requests that a cached answer went to", query=["tenant", "question"])},
        "/admin/v1/jobs": {"get": _operation("List runs of jobs", query=["tenant", "kind", "state", "limit", "before"])},
        "/admin/v1/jobs/{run}": {"get": _operation("Show a run", path="run")},
        "/admin/v1/jobs/{run}/results": {
            "get": _operation("List what came of the items of a run", path="run", query=["state", "limit", "after"])
        },
        "/admin/v1/jobs/{run}/cancel": {"post": _operation("Cancel a run", path="run")},
        "/admin/v1/foresight/actions": {"get": _operation("List the actions and the chances of a click", query=["tenant"])},
        "/admin/v1/foresight/waste": {"get": _operation("What was computed ahead for nothing", query=["tenant", "week"])},
        "/admin/v1/mode": {
            "get": _operation("Show the modes", query=["scope"]),
            "put": _operation("Set a mode", "NewMode"),
        },
        "/admin/v1/mode/pins": {"post": _operation("Pin a scope to a mode", "NewPin")},
        "/admin/v1/mode/pins/{scope}": {"delete": _operation("Take a pin away", path="scope", query=["reason", "version"])},
        "/admin/v1/mode/history": {"get": _operation("List who changed the modes, when and why", query=["limit"])},
        "/admin/v1/report": {"get": _operation("What was spent and saved", query=["since", "until", "by", "tenant"])},
        "/admin/v1/route/explain": {"post": _operation("Explain which model a request would go to", "ExplainRoute")},
        "/admin/v1/requests": {"get": _operation("List requests", query=["tenant", "user", "since", "until", "limit"])},
        "/admin/v1/requests/{id}": {"get": _operation("Show a request and its texts", path="id")},
        "/admin/v1/events": {"get": _operation("List events", query=["tenant", "after", "limit"])},
        "/admin/v1/events/dead": {"get": _operation("List events that could not be handled", query=["tenant", "handler", "limit"])},
        "/admin/v1/events/backlog": {"get": _operation("How far behind the handlers are")},
        "/admin/v1/events/replay": {"post": _operation("Deliver dead letters again", "Replay")},
        "/admin/v1/feedback": {"get": _operation("List feedback", query=_FEEDBACK)},
        "/admin/v1/feedback/export": {"get": _operation("Export feedback for training", query=_FEEDBACK)},
        "/admin/v1/routers": {"get": _operation("List trained routers")},
        "/admin/v1/routers/verdicts": {"post": _operation("Say how good the answer to a routed request was", "RouterOpinion")},
        "/admin/v1/routers/{name}/versions": {
            "post": _operation("Add a version of a trained router", "NewVersion", path="name", status="201")
        },
        "/admin/v1/routers/{name}/promote": {"post": _operation("Let a version of a router decide", "Promote", path="name")},
        "/admin/v1/routers/{name}/promoted": {"get": _operation("Retrieve the version of a router that decides", path="name")},
        "/admin/v1/routers/{name}/outcomes": {
            "get": _operation("List what a router can be trained on", path="name", query=["tenant", "limit", "before"])
        },
        "/admin/v1/tenants/{tenant}/retention": {
            "get": _operation("Show whether texts are kept", path="tenant"),
            "put": _operation("Set whether texts are kept", "NewRetention", path="tenant"),
            "delete": _operation("Keep no texts any more", path="tenant", query=["purge"]),
        },
        "/admin/v1/tenants/{tenant}/data": {"delete": _operation("Delete the texts of a tenant", path="tenant")},
        "/admin/v1/tenants/{tenant}/users/{user}/data": {"delete": _of_user(_operation("Delete the texts of a user", path="tenant"))},
        "/healthz": {"get": {**_operation("Whether the worker lives"), "security": []}},
        "/readyz": {"get": {**_operation("Whether requests can be answered"), "security": []}},
        "/metrics": {"get": _operation("Prometheus metrics", content={"text/plain": {"schema": {"type": "string"}}})},
        "/openapi.json": {"get": _operation("This document")},
    }
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Farthing", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
            "security": [{"key": []}],
            "paths": paths,
            "components": {
                "schemas": {**components, "CloudEvents": _CLOUD_EVENTS, "Error": _ERROR, "AnthropicError": _ANTHROPIC_ERROR},
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _operation(
    summary: str,
    body: str | None = None,
    *,
    path: str | None = None,
    query: list[str] | None = None,
    status: str = "200",
    content: dict[str, Any] | None = None,
) -> Json:
    parameters = [{"name": name, "in": "query", "required": False, "schema": {"type": "string"}} for name in query or []]
    if path:
        parameters.append({"name": path, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}})
    operation: Json = {
        "summary": summary,
        "operationId": summary.lower().replace(" ", "_"),
        "responses": {status: {"description": "Done", "content": content or {"application/json": {"schema": {}}}}},
    }
    for code, meaning in _ERRORS.items():
        operation["responses"][code] = {
            "description": meaning,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    if parameters:
        operation["parameters"] = parameters
    if body:
        schema = {"$ref": f"#/components/schemas/{body}"}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _of_user(operation: Json) -> Json:
    """The operation on a user of the tenant."""
    user: Json = {"name": "user", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 256}}
    flush: Json = {"name": "flush_cache", "in": "query", "required": False, "schema": {"type": "string"}}
    return {**operation, "parameters": [*operation["parameters"], user, flush]}


def _anthropic(operation: Json) -> Json:
    """The operation with Anthropic's errors."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/AnthropicError"}}}
    errors = {code: {"description": meaning, "content": content} for code, meaning in {**_ERRORS, "529": "Overloaded; retry."}.items()}
    return {**operation, "responses": {**operation["responses"], **errors}}


async def openapi_door(request: Request, scope: Scope, receive: Receive, send: Send) -> None:
    """GET /openapi.json."""
    del receive
    await send_whole(scope, send, 200, [(b"x-request-id", str(request.id).encode())], document())
