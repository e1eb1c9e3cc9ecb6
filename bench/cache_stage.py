"""How long a semantic hit takes, and what of it is the embedding and what the decision. In process, without HTTP.

    python bench/cache_stage.py [--entries 5000] [--rounds 500]

A question of twelve words is asked in other words of a cache with so many entries in one partition. Prints one JSON line; `added_ms` is
the hit less the embedding; `decision_ms` reading and weighing candidates until one may be served, right after the embedding has emptied
the processor's caches; `decision_again_ms` the same once more for all three.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from datetime import timedelta
from uuid import UUID

from caching.questions import texts
from farthing.caching.audits import AuditSettings
from farthing.caching.bookkeeper import Bookkeeper, NewQuestion
from farthing.caching.entry import Entry
from farthing.caching.finder import Finder
from farthing.caching.judgement import Judgement
from farthing.caching.looks import Looks
from farthing.caching.pace import Pace
from farthing.caching.question import Asked, question_of
from farthing.caching.semantic import SemanticCache
from farthing.caching.verdicts import Verdicts
from farthing.caching.verifier import Verifier
from farthing.inprocess.cache_records import InProcessCacheRecords
from farthing.inprocess.questions import InProcessQuestions
from farthing.inprocess.stores import InProcessAnswers, InProcessChanges
from farthing.pipeline.errands import Errands
from farthing.providers.local.embedder import OnnxEmbedder
from farthing.providers.local.weights import MINILM, locate, locate_tokenizer
from farthing.settings import CacheSettings
from farthing.types import Answer, Extras, Lifeline, Operation, Principal, Request, new_id, utc_now

KNOWN = "How can I get my money back for an order that never arrived?"
ASKED = "how could I get my money back for an order which never arrived"
KIND = ("acme", "default", "m")
WHO = Principal(key_id=UUID(int=1), tenant="acme")
ENTRY = Entry(
    model="m", object="chat.completion", tail=b'{"choices":[{"message":{"content":"So."}}]}', chunks=None, cost_microusd=9, expires=2e9
)


def asking(text: str) -> Request:
    body = {"messages": [{"role": "user", "content": text}]}
    return Request(
        id=new_id(),
        principal=WHO,
        operation=Operation.CHAT,
        body=body,
        model="m",
        extras=Extras(),
        started_ns=time.perf_counter_ns(),
        lifeline=Lifeline(None),
    )


async def stored(tenant: str, key: bytes, stretch: float) -> Entry:
    del tenant, key, stretch
    return ENTRY


async def nobody(request: Request) -> Answer:
    raise AssertionError(f"{request.body} is a miss")


async def measure(entries: int, rounds: int) -> dict[str, float]:
    settings = CacheSettings.model_validate({"semantic": {"write_queue": entries + 10}})
    semantic = settings.semantic
    embedder = OnnxEmbedder(model=locate(MINILM), tokenizer=locate_tokenizer(MINILM))
    changes = InProcessChanges()
    index, store = InProcessQuestions(max_entries=entries + 10), InProcessQuestions(changes, max_entries=entries + 10)
    records, errands, pace = InProcessCacheRecords(store, changes), Errands(), Pace(rate=1e9, idle_rate=1e9, min_hit_rate=0)
    finder = Finder(embedder, index, store, semantic, pace)
    finder.complete = True
    judgement = Judgement(Verifier.load(), audits=AuditSettings(budget=0, opening=0))
    bookkeeper = Bookkeeper(embedder, index, store, records, index.served, semantic)
    verdicts = Verdicts(records, store, InProcessAnswers(changes), judgement, finder.lost, lambda: None)
    looks = Looks(errands, verdicts, embedder, semantic)
    stage = SemanticCache(settings, embedder.version, finder, judgement, bookkeeper, looks, errands, stored, pace)
    for number, text in enumerate([KNOWN, *texts(entries - 1)]):
        asked = question_of(asking(text), settings, embedder.version)
        if isinstance(asked, Asked):
            facts = {"kind": KIND, "tags": (), "asked": asked, "request_id": new_id()}
            expires = (utc_now() + timedelta(days=1)).timestamp()
            bookkeeper.learn(NewQuestion(**facts, answer_key=number.to_bytes(32, "big"), cost_microusd=9, expires=expires, at=utc_now()))  # type: ignore[arg-type]  # as they are
    while bookkeeper.pending:
        await bookkeeper.write()
    embedding, deciding, all_three, hits = [], [], [], []
    for _ in range(rounds):
        began = time.perf_counter()
        await embedder.encode([ASKED])
        embedding.append(time.perf_counter() - began)
        asked = question_of(asking(ASKED), settings, embedder.version)
        assert isinstance(asked, Asked)
        near = await finder.near(KIND, asked, most=semantic.neighbours + 1)
        began = time.perf_counter()
        judgement.decide("acme", asked, near, most=semantic.neighbours)
        deciding.append(time.perf_counter() - began)
        began = time.perf_counter()
        judgement.decide("acme", asked, near, most=semantic.neighbours, every=True)
        all_three.append(time.perf_counter() - began)
        request = asking(ASKED)
        began = time.perf_counter()
        await stage(request, nobody)
        hits.append(time.perf_counter() - began)
    await embedder.aclose()
    named = {"embedding_ms": embedding, "decision_ms": deciding, "decision_again_ms": all_three, "hit_ms": hits}
    found = {name: round(statistics.median(times) * 1000, 3) for name, times in named.items()}
    return {**found, "added_ms": round(found["hit_ms"] - found["embedding_ms"], 3), "entries": await index.size(), "rounds": rounds}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--entries", type=int, default=5000)
    arguments.add_argument("--rounds", type=int, default=500)
    given = arguments.parse_args()
    print(json.dumps({"bench": "cache_stage", **asyncio.run(measure(given.entries, given.rounds))}))


if __name__ == "__main__":
    main()
