"""What can be left out of a conversation, and what cannot. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

INSTRUCTIONS: Final = frozenset({"system", "developer"})
_ANSWERS: Final = frozenset({"tool", "function"})


def role_of(message: Any) -> str | None:
    """The role of a message; None for what is no message."""
    return message.get("role") if isinstance(message, dict) else None


def turn_starts(messages: Sequence[Any]) -> list[int]:
    """Where user turns begin: several messages of a user in a row are one."""
    return [at for at, one in enumerate(messages) if role_of(one) == "user" and (at == 0 or role_of(messages[at - 1]) != "user")]


def without_before(messages: Sequence[Any], cut: int) -> list[Any]:
    """The messages from a place on, and the instructions before it."""
    return [*(one for one in messages[:cut] if role_of(one) in INSTRUCTIONS), *messages[cut:]]


def orphans(messages: Sequence[Any], cut: int) -> bool:
    """Whether something from the cut on answers a tool's call that was made before it."""
    if not any(role_of(one) in _ANSWERS for one in messages[cut:]):
        return False
    before = {call for one in messages[:cut] for call in _calls(one)}
    since: set[str] = set()
    for one in messages[cut:]:
        since.update(_calls(one))
        answered = _answered(one)
        if answered is not None and answered in before and answered not in since:
            return True
    return False


def _calls(message: Any) -> list[str]:
    if not isinstance(message, dict):
        return []
    calls = message.get("tool_calls")
    found = [str(call.get("id")) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    function = message.get("function_call")
    return [*found, f"function {function.get('name')}"] if isinstance(function, dict) else found


def _answered(message: Any) -> str | None:
    role = role_of(message)
    return str(message.get("tool_call_id")) if role == "tool" else f"function {message.get('name')}" if role == "function" else None
