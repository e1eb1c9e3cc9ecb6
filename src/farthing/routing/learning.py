"""The learned router at work in one worker: which version decides, and what it says of a request. It never raises.

Versions are loaded in a thread when other workers say that another one decides, and by the clock where no news come. One that cannot be
used is logged and the one before stays. Without the database at start nothing decides: the router's default does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from farthing.errors import FarthingError, InvalidRequest
from farthing.ports import Embedder, RouterStore
from farthing.routing.exploration import Exploration
from farthing.routing.learned.features import features_of
from farthing.routing.learned.model import LearnedModel
from farthing.routing.learned.prompt import text_of_prompt
from farthing.routing.outcome_book import OutcomeBook
from farthing.settings import LearnedSettings
from farthing.types import Json, Request

_log = logging.getLogger("farthing.routing")
_WARM_S: Final = 10.0


class Student(msgspec.Struct, frozen=True, kw_only=True):
    """A router that can learn. `models` are its candidates, the weakest first."""

    models: tuple[str, ...]
    settings: LearnedSettings
    exploration: Exploration


class _Deciding(msgspec.Struct, frozen=True, kw_only=True):
    """A model and the version that it is. `promoted` is the version that should decide: another one if that cannot be used here."""

    promoted: int
    version: int = 0
    model: LearnedModel | None = None


class Learned:
    """`decided`, `unknown` and `late` count requests: a model was chosen, none could be, the prompt was not read in time.

    `embedder` is None where there is none on this machine: then nothing is decided.
    """

    def __init__(
        self, store: RouterStore, embedder: Embedder | None, students: Mapping[str, Student], book: OutcomeBook, *, refresh_s: float
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._students = students
        self._book = book
        self._refresh_s = refresh_s
        self._deciding: dict[str, _Deciding] = {}
        self._reloading = asyncio.Lock()
        self.decided = 0
        self.unknown = 0
        self.late = 0

    @property
    def explored(self) -> int:
        """Requests that another model than the chosen one answered."""
        return sum(student.exploration.explored for student in self._students.values())

    def version(self, router: str) -> int | None:
        """Which version decides here; None: none, or one that cannot be used and there was none before."""
        deciding = self._deciding.get(router)
        return deciding.version if deciding is not None and deciding.model is not None else None

    async def choose(self, router: str, request: Request, quality: float, models: Sequence[str] | None = None) -> tuple[str | None, str]:
        """The model for a request, or None for "I don't know", and why, in words.

        `quality` is the share of the best model's quality to keep. `models`: only these candidates; None for all of the router's. A request
        with `dry_run` is only asked about: it is not counted, explored or remembered.
        """
        try:
            model, reason = await self._choose(router, request, quality, models)
        except Exception as error:  # noqa: BLE001 - whatever it is, the default answers and the log must say
            _log.exception("the learned router %r failed", router)
            model, reason = None, f"the learned router failed ({type(error).__name__})"
        if not request.extras.dry_run:
            self.decided += model is not None
            self.unknown += model is None
        return model, reason

    async def _choose(self, router: str, request: Request, quality: float, models: Sequence[str] | None) -> tuple[str | None, str]:
        student, deciding = self._students.get(router), self._deciding.get(router)
        if student is None or deciding is None or deciding.model is None:
            return None, "no version of the learned router decides"
        learned = deciding.model
        candidates = [model for model in learned.models if model in (student.models if models is None else models)]
        if not candidates:
            return None, "none of the models that may answer is one that was learnt about"
        read = await self._read(request, student.settings.embed_timeout_s)
        if isinstance(read, str):
            return None, read
        features = features_of(request.body)
        chosen = learned.choose(learned.predict(read, features), quality, candidates)
        said = f"version {deciding.version}: {chosen.reason}"
        if request.extras.dry_run:
            return chosen.model, said
        other = student.exploration.instead_of(chosen.model, candidates, request) if chosen.model is not None else None
        self._book.note(request, router, read, features, other or chosen.model, explored=other is not None)
        if other is not None:
            return other, f"{said}; explored: {other} instead of {chosen.model}"
        return chosen.model, said

    async def _read(self, request: Request, timeout_s: float) -> bytes | str:
        """The prompt's embedding, or why there is none."""
        text = text_of_prompt(request.body)
        if not text.strip():
            return "the request has no text to learn from"
        if self._embedder is None:
            return "there is no embedder on this machine (setting local.enabled)"
        asked = request.asked  # the semantic cache may have read it
        encoded = getattr(asked, "encoded", None) if getattr(asked, "text", None) == text else None
        if encoded is None:
            try:
                async with asyncio.timeout(timeout_s):
                    (encoded,) = await self._embedder.encode([text])
            except TimeoutError:
                self.late += not request.extras.dry_run
                return f"the prompt was not read within {timeout_s:g} s"
            except FarthingError as error:
                self.late += not request.extras.dry_run
                return f"the prompt could not be read: {error.message}"
        return encoded.vector if any(encoded.vector) else "the prompt has no direction"

    async def run(self) -> None:
        """Load what decides, by the clock, until cancelled. First of all the embedder: it takes longer than a request would wait."""
        await self._warm_up()
        while True:
            try:
                await self.reload()
            except FarthingError as error:
                _log.debug("learned routers not refreshed: %s", error)
            await asyncio.sleep(self._refresh_s)

    async def _warm_up(self) -> None:
        if self._embedder is None:
            return
        loading = asyncio.ensure_future(self._embedder.encode(["Which model is this for?"]))
        try:
            await asyncio.wait({loading}, timeout=_WARM_S)
            if loading.done():
                loading.result()
        except FarthingError as error:
            _log.warning("learned routers have no embedder: %s", error)
        finally:
            loading.cancel()

    async def reload(self) -> None:
        """Let those versions decide that the store says. Raises the store's errors and keeps the old ones then."""
        async with self._reloading:
            for router, student in self._students.items():
                last = await self._store.promotions(router, 1)
                version, before = last[0].version if last else None, self._deciding.get(router)
                if version is None:
                    self._deciding.pop(router, None)
                elif before is None or before.promoted != version:
                    await self._load(router, student, before)

    async def _load(self, router: str, student: Student, before: _Deciding | None) -> None:
        found = await self._store.promoted(router)
        if found is None:
            return
        try:
            model = await asyncio.to_thread(fitting, found.artefact, student.models, self._embedder.version if self._embedder else None)
        except InvalidRequest as error:
            _log.error("version %d of the router %s cannot be used: %s", found.version, router, error)
            kept = before or _Deciding(promoted=found.version)
            self._deciding[router] = msgspec.structs.replace(kept, promoted=found.version)
        else:
            self._deciding[router] = _Deciding(promoted=found.version, version=found.version, model=model)


def fitting(artefact: bytes, models: Sequence[str], embedder: str | None) -> LearnedModel:
    """A trained router for these candidates. Raises `InvalidRequest` when it is none, or none for them. None: whatever the embedder."""
    model = LearnedModel.load(artefact)
    if embedder is not None and model.embedder != embedder:
        raise InvalidRequest(
            f"it was trained with the embedder {model.embedder!r}, and this is {embedder!r}: train it again", param="artefact"
        )
    unknown = [name for name in model.models if name not in models]
    if unknown:
        raise InvalidRequest(
            f"it is about {unknown[0][:128]!r}, which is no candidate of this router; those are: {', '.join(models)}", param="artefact"
        )
    order = [name for name in models if name in model.models]
    if list(model.models) != order:
        raise InvalidRequest(
            f"its models are in the order {', '.join(model.models)}, and in the settings {', '.join(order)}", param="artefact"
        )
    return model


def facts_of(model: LearnedModel) -> Json:
    """What is to be said of a trained router."""
    return {"models": list(model.models), "embedder": model.embedder}
