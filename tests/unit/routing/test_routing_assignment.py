"""Which model answers a caller who names none."""

from __future__ import annotations

import random
from uuid import UUID

import pytest

from farthing.routing.assignment import Assignment
from farthing.routing.catalogue import Catalogue, Model
from farthing.types import Operation, Principal

MODELS = {"vectors": Operation.EMBEDDINGS, "first": Operation.CHAT, "second": Operation.CHAT}


def assigned(task_type: str | None, *, model: str | None = None, allowed: set[str] | None = None, **task_types: str) -> str:
    catalogue = Catalogue([Model(name=name, operation=operation, deployments=()) for name, operation in MODELS.items()], random.Random(1))  # noqa: S311 - spreads load, guards nothing
    who = Principal(key_id=UUID(int=1), tenant="t", models=None if allowed is None else frozenset(allowed))
    return Assignment(catalogue, model, task_types)(who, task_type)


def test_without_settings_it_is_the_first_chat_model_that_the_key_may_use() -> None:
    assert assigned(None) == assigned("anything") == "first"
    assert assigned(None, allowed={"vectors", "second"}) == "second"


def test_settings_name_one_for_all_and_one_for_a_task_type() -> None:
    assert assigned(None, model="second") == "second"
    assert assigned("summarize", model="second", summarize="first") == "first"
    assert assigned("other", model="second", summarize="first") == "second"


def test_a_named_model_is_not_replaced_by_one_that_the_key_may_use() -> None:
    assert assigned(None, model="second", allowed={"first"}) == "second", "the catalogue then refuses it by its name"


@pytest.mark.parametrize("allowed", [set[str](), {"vectors"}])
def test_a_key_without_chat_models_gets_the_free_one(allowed: set[str]) -> None:
    assert assigned(None, allowed=allowed) == "local"
