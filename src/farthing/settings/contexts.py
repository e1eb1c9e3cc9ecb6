"""Where requests go that are too long for a model: `models.NAME.context_fallbacks` must lead on to larger ones."""

from __future__ import annotations

from collections.abc import Mapping

from farthing.settings.providers import LocalSettings, ModelSettings

_LOCAL = "local"


def check_context_fallbacks(models: Mapping[str, ModelSettings], local: LocalSettings) -> None:
    """Raise ValueError for one of another kind, one that is known to hold no more, the model itself, and a circle.

    That the names exist is seen to before.
    """
    for name, model in models.items():
        for other in model.context_fallbacks:
            where = f"models.{name}.context_fallbacks"
            if other == name:
                msg = f"{where}: {name!r} is the model itself"
                raise ValueError(msg)
            kind, room = _facts(other, models, local)
            if kind != model.kind:
                msg = f"{where}: {other!r} is for {kind}, {name!r} for {model.kind}"
                raise ValueError(msg)
            if room is not None and model.context_tokens is not None and room <= model.context_tokens:
                msg = f"{where}: {other!r} holds {room} tokens, {name!r} {model.context_tokens}: it must hold more"
                raise ValueError(msg)
    for name in models:
        if (circle := _circle(name, models)) is not None:
            msg = f"models.{name}.context_fallbacks: they go in a circle: {' → '.join(circle)}"
            raise ValueError(msg)


def _facts(name: str, models: Mapping[str, ModelSettings], local: LocalSettings) -> tuple[str, int | None]:
    if name in models:
        return models[name].kind, models[name].context_tokens
    return ("chat", local.context_tokens) if name == _LOCAL else ("embeddings", None)


def _circle(start: str, models: Mapping[str, ModelSettings]) -> list[str] | None:
    """The names on the way from a model back to itself; None when there is none."""
    came_from: dict[str, str] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        for other in models[name].context_fallbacks if name in models else ():
            if other == start:
                way = [name, start]
                while way[0] != start:
                    way.insert(0, came_from[way[0]])
                return way
            if other not in came_from:
                came_from[other] = name
                waiting.append(other)
    return None
