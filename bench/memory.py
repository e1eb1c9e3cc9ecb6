"""The article's memory table: what a chat costs with the whole history in its prompt, and with facts (and windows) instead.

    python bench/memory.py [--file locomo_dev.json.gz] [--history-tokens 80000] [--questions 100]

Reads LoCoMo's own JSON (https://github.com/snap-research/locomo). Its turns are kept as conversations are kept here, its observations are
the facts, and its questions are asked through the recall stage itself, on stores in process. Tokens are by Farthing's own counter
(bytes / 4, and 4 for each message). Money: Claude 3 Opus answers (15 and 75 dollars a million tokens, 300 tokens an answer), and Claude
3 Haiku reads each turn for facts (0.25 and 1.25; the article's 1,000 tokens in, 100 out), which the rows with facts pay for.

Prints one JSON line. `fewer_tokens` and `less_money` are shares of what the whole history costs; `stage_own_ms` is what the stage takes
of a core, for machines that are busy.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from farthing.cipher import Cipher
from farthing.cli.texts import embedded
from farthing.inprocess.facts import InProcessFacts
from farthing.inprocess.stores import InProcessChanges
from farthing.inprocess.turns import InProcessTurns
from farthing.memory.conversations import Conversations, line_of
from farthing.memory.keeping import Keeper
from farthing.memory.locomo import Conversation, conversations
from farthing.memory.recall import Recall
from farthing.memory.vectors import Vectors
from farthing.pipeline.tokens import count_request
from farthing.ports import Encoded
from farthing.settings.memory_recall import RecallSettings
from farthing.types import Answer, Extras, Json, Lifeline, NewFact, Operation, Principal, Request, Source, new_id, utc_now

FILE = Path(__file__).parents[2] / "shared/data/memory/locomo_dev.json.gz"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
OPUS_IN, OPUS_OUT, HAIKU_IN, HAIKU_OUT = 15.0, 75.0, 0.25, 1.25
ANSWER_TOKENS, READ_IN, READ_OUT = 300, 1000, 100
TENANT, USER = "bench", "somebody"
LEARNT_AT_ONCE = 100


class Known:
    """The port `Embedder` over embeddings that were computed before, so that what is timed is the stage."""

    version = "known"
    dimensions = 384

    def __init__(self, texts: Sequence[str]) -> None:
        distinct = list(dict.fromkeys(texts))
        self._vectors = dict(zip(distinct, map(_int8, embedded(distinct)), strict=True))

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [Encoded(vector=self._vectors.get(text, bytes(384)), words=b"", spans=()) for text in texts]

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        return [[float(one) for one in self._vectors[text]] for text in texts], 0

    async def aclose(self) -> None:
        pass


class User:
    """Somebody with a history and facts, and a recall stage in front of nothing. `seen` is the last request behind it."""

    def __init__(self, turns: Sequence[tuple[str, str]], facts: Sequence[str], settings: RecallSettings, embedder: Known) -> None:
        self.turns = turns
        self._facts = facts
        self._store = InProcessFacts(InProcessChanges())
        vectors = Vectors(embedder, most=10_000, timeout_s=10.0)
        self._vectors = vectors
        self._conversations = Conversations(InProcessTurns(), Cipher(bytes(32)), vectors, settings)
        self._stage = Recall(settings, self._store, self._conversations, vectors, Keeper(self._conversations, None, max_turn_bytes=65_536))
        self.seen: list[Request] = []

    async def remember(self) -> None:
        """Keep the turns, and learn the facts."""
        spoken, after = [], None
        for number, (role, text) in enumerate(self.turns):
            one = self._conversations.turn((TENANT, USER, "past"), after, role, text, BEGAN + timedelta(minutes=number))
            spoken.append(one)
            after = one.turn.id
        await self._conversations.keep(spoken)
        await self._conversations.read()
        for start in range(0, len(self._facts), LEARNT_AT_ONCE):
            some = [_observed(text) for text in self._facts[start : start + LEARNT_AT_ONCE]]
            await self._store.learn(TENANT, USER, some, arrived=utc_now())

    async def ask(self, question: str, mode: str) -> Request:
        """The request as the model would get it."""
        messages: list[Json] = [{"role": "user", "content": question}]
        asked = Request(
            id=new_id(),
            principal=Principal(key_id=UUID(int=1), tenant=TENANT),
            operation=Operation.CHAT,
            body={"messages": messages},
            model="m",
            extras=Extras(user=USER, memory=mode, store=False),  # type: ignore[arg-type]  # one of them
            started_ns=0,
            lifeline=Lifeline(None),
        )
        await self._stage(asked, self._answer)
        return self.seen[-1]

    async def _answer(self, request: Request) -> Answer:
        self.seen.append(request)
        return Answer(source=Source.MODEL, model="m")


Asked = tuple[User, list[str]]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--file", type=Path, default=FILE)
    arguments.add_argument("--history-tokens", type=int, default=80_000)
    arguments.add_argument("--questions", type=int, default=100, help="of each conversation at most")
    wanted = arguments.parse_args()
    if not wanted.file.exists():
        raise SystemExit(f"skipped: there is no {wanted.file}; say where LoCoMo's JSON is with --file")
    data = _read(wanted.file)
    talks = conversations(data)
    observed = [_observations(sample) for sample in json.loads(data)]
    locomo, everything = _users(talks, observed, wanted.history_tokens, wanted.questions)
    found = asyncio.run(_table(locomo, everything))
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version(), "machine": platform.machine()}
    print(json.dumps({"bench": "memory", "machine": machine, **found}))


def _users(talks: Sequence[Conversation], observed: Sequence[list[str]], history_tokens: int, questions: int) -> tuple[list[Asked], Asked]:
    """One for each conversation, and one who has had all of them, over and over, up to so many tokens."""
    settings = RecallSettings()
    histories = [_turns(talk) for talk in talks]
    asked = [[question.text for question in talk.questions[:questions]] for talk in talks]
    texts = [line_of(role, text) for turns in histories for role, text in turns]
    texts += [f"user: {' '.join(text.split())}" for some in asked for text in some]
    texts += [f"observed: {text}" for some in observed for text in some]
    embedder = Known(texts)
    locomo = [(User(turns, facts, settings, embedder), some) for turns, facts, some in zip(histories, observed, asked, strict=True)]
    long = _cut([turn for turns in histories for turn in turns] * (1 + history_tokens // 40_000), history_tokens)
    every = max(1, sum(map(len, asked)) // questions)
    everything = User(long, [fact for facts in observed for fact in facts], settings, embedder)
    return locomo, (everything, [text for some in asked for text in some][::every])


async def _table(locomo: Sequence[Asked], everything: Asked) -> Json:
    for user, _ in (*locomo, everything):
        await user.remember()
    return {"locomo": await _rows(locomo), "long_history": await _rows([everything])}


async def _rows(users: Sequence[Asked]) -> Json:
    whole = [
        count_request({"messages": [*_messages(user.turns), {"role": "user", "content": text}]}) for user, asked in users for text in asked
    ]
    history = _row(whole, [], reads=False)
    found: Json = {"questions": len(whole), "history": history}
    for mode in ("facts", "facts+windows"):
        sizes, took, own = [], [], time.process_time()
        for user, asked in users:
            await user.ask(asked[0], mode)  # the facts' embeddings
            for text in asked:
                began = time.perf_counter()
                request = await user.ask(text, mode)
                took.append(time.perf_counter() - began)
                sizes.append(count_request(request.body))
        row = _row(sizes, took, reads=True)
        row["stage_own_ms"] = round((time.process_time() - own) * 1000 / len(sizes), 2)
        row["fewer_tokens"] = round(1 - row["tokens"] / history["tokens"], 4)
        row["less_money"] = round(1 - row["microusd"] / history["microusd"], 4)
        found[mode] = row
    return found


def _row(tokens: Sequence[int], took: Sequence[float], *, reads: bool) -> Json:
    mean = statistics.fmean(tokens)
    reading = READ_IN * HAIKU_IN + READ_OUT * HAIKU_OUT if reads else 0.0
    row: Json = {"tokens": round(mean, 1), "microusd": round(mean * OPUS_IN + ANSWER_TOKENS * OPUS_OUT + reading)}
    row["input_microusd"] = round(mean * OPUS_IN + reading)
    if took:
        cuts = statistics.quantiles(took, n=100)
        row |= {"stage_p50_ms": round(cuts[49] * 1000, 2), "stage_p99_ms": round(cuts[98] * 1000, 2)}
    return row


def _observed(text: str) -> NewFact:
    return NewFact(key="observed", value=text, multi=True, by="model:observer", valid_from=BEGAN)


def _turns(talk: Conversation) -> list[tuple[str, str]]:
    """The first speaker is the user, the other one the assistant; both say who they are."""
    first = talk.turns[0].speaker
    return [("user" if turn.speaker == first else "assistant", turn.line) for turn in talk.turns]


def _messages(turns: Sequence[tuple[str, str]]) -> list[Json]:
    return [{"role": role, "content": text} for role, text in turns]


def _cut(turns: Sequence[tuple[str, str]], tokens: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    size = 0
    for turn in turns:
        size += count_request({"messages": _messages([turn])})
        if size > tokens:
            break
        found.append(turn)
    return found


def _observations(sample: Json) -> list[str]:
    """What LoCoMo's authors have noted about the speakers, session by session."""
    return [str(one[0]) for session in sample.get("observation", {}).values() for some in session.values() for one in some]


def _int8(vector: Sequence[float]) -> bytes:
    scale = 127 / max(map(abs, vector))
    return bytes(round(one * scale) & 0xFF for one in vector)


def _read(path: Path) -> Any:
    data = path.read_bytes()
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


if __name__ == "__main__":
    main()
