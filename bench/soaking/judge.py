"""Whether all that was asked was answered rightly, and is in the books once. Pure: facts in, findings out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from soaking.facts import Ask, Row, Served, Tenant, Try, Window

_DYING_S = 1.5
"""How long after a worker's death its connections are seen to be broken."""
_MOST_NAMED = 20


class Finding(msgspec.Struct, kw_only=True):
    """How often something happened, and the first times in words."""

    count: int = 0
    examples: list[str] = msgspec.field(default_factory=list)

    def add(self, example: str) -> None:
        self.count += 1
        if len(self.examples) < _MOST_NAMED:
            self.examples.append(example)


class Verdict(msgspec.Struct, kw_only=True):
    """`wrong`, `lost`, `lost_rows`, `doubled` and `misbilled` must be nothing.

    `misbilled`: a row says otherwise than the answer's own headers, or than the provider counted. `died`: tries that ended with their
    worker; the ledger may not know them, nor what they cost. `late`: answers that the provider had given whole, and that did not come
    within the time-out; the ledger says so, and has an estimate of what they cost.
    """

    wrong: Finding = msgspec.field(default_factory=Finding)
    lost: Finding = msgspec.field(default_factory=Finding)
    lost_rows: Finding = msgspec.field(default_factory=Finding)
    doubled: Finding = msgspec.field(default_factory=Finding)
    misbilled: Finding = msgspec.field(default_factory=Finding)
    died: Finding = msgspec.field(default_factory=Finding)
    died_cost: Counter[str] = msgspec.field(default_factory=Counter)
    """Micro-dollars by tenant that the provider bills and no row knows of."""
    late: Finding = msgspec.field(default_factory=Finding)
    late_cost: int = 0
    """Micro-dollars that the provider bills for the late ones."""
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    exhausted: Counter[str] = msgspec.field(default_factory=Counter)
    told: Counter[str] = msgspec.field(default_factory=Counter)
    cut_by_death: int = 0
    rows_expected: int = 0
    rows_found: int = 0
    rows_unheard: int = 0
    """Final rows of requests whose answer's head never came to the client."""
    served_cost: int = 0
    billed_cost: int = 0


class Judge:
    """`asks` by id. `unchecked` are models whose answers cannot be foretold."""

    def __init__(
        self,
        asks: dict[str, Ask],
        served: Sequence[Served],
        tenants: Iterable[Tenant],
        windows: Iterable[Window],
        *,
        unchecked: frozenset[str] = frozenset({"local"}),
    ) -> None:
        self._asks = asks
        self._served = served
        self._by_nonce = {one.nonce: one for one in served}
        self._may = {tenant.name: tenant.may for tenant in tenants}
        self._deaths = [at for window in windows if "worker_kill" in window.fault for at in window.killed_at]
        self._unchecked = unchecked
        self._excused: set[tuple[str, int]] = set()
        self.verdict = Verdict()

    def judge(self, rows: Sequence[Row]) -> Verdict:
        """All of it."""
        for ask in self._asks.values():
            self._end_of(ask)
        self._rows_of_tries(rows)
        self._bills(rows)
        return self.verdict

    def _end_of(self, ask: Ask) -> None:
        verdict, code = self.verdict, ask.code or "?"
        what = f"{ask.id} {ask.tenant} {ask.door}{' stream' if ask.stream else ''} {ask.model}: {ask.outcome} {code}"
        match ask.outcome:
            case "answered":
                if why := self._wrong(ask):
                    verdict.wrong.add(f"{ask.id} {ask.tenant} {ask.door}: {why}")
            case "silent":
                verdict.wrong.add(f"{what}: the stream ended as if it were whole, after {ask.text[-60:]!r}")
            case "cut":
                if self._died(ask.tries[-1]):
                    verdict.cut_by_death += 1
                else:
                    verdict.wrong.add(f"{what}: a stream was cut off without an error event")
            case "refused":
                verdict.refused[code] += 1
                if code not in self._may[ask.tenant]:
                    verdict.lost.add(f"{what}: nothing that this key has could refuse it")
            case "told":
                verdict.told[code] += 1
            case "exhausted":
                verdict.exhausted[code] += 1
            case _:
                verdict.lost.add(what)

    def _wrong(self, ask: Ask) -> str | None:
        """Why an answer is not the one to its question."""
        if ask.model in self._unchecked:
            return None if ask.text else "it is empty"
        parts = ask.text.split(" | ")
        one = self._by_nonce.get(parts[1]) if len(parts) > 2 else None
        owner = self._asks.get(one.ask_id) if one else None
        why = None
        if one is None:
            why = f"the upstream never said {ask.text[:120]!r}"
        elif parts[0] != ask.question:
            why = f"the question was {ask.question!r}, the answer is to {parts[0]!r}"
        elif ask.text != one.text:
            why = f"{ask.text!r} is not what the upstream said, {one.text!r}"
        elif owner is None or owner.tenant != ask.tenant:
            why = f"it was made for the tenant {owner.tenant if owner else None}"
        elif ask.tries[-1].source == "model" and owner is not ask:
            why = f"it is said to be a model's answer, and was made for {owner.id}"
        return why

    def _died(self, tried: Try) -> bool:
        ended = tried.ended
        return not tried.complete and ended is not None and any(at - 0.1 <= ended <= at + _DYING_S for at in self._deaths)

    def _rows_of_tries(self, rows: Sequence[Row]) -> None:
        """Each try that got a head has one final row, which says the same."""
        verdict = self.verdict
        finals: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if row.final:
                finals[row.request_id].append(row)
        for key, times in Counter((row.request_id, row.attempt) for row in rows).items():
            if times > 1:
                verdict.doubled.add(f"attempt {key[1]} of request {key[0]} has {times} rows")
        heard = set()
        for ask in self._asks.values():
            for tried in ask.tries:
                if tried.request_id is None:
                    if self._died(tried):
                        verdict.died.add(f"{ask.id}: before the head of an answer")
                    continue
                verdict.rows_expected += 1
                heard.add(tried.request_id)
                self._row_of(ask, tried, finals.get(tried.request_id, []))
        verdict.rows_found = sum(request_id in finals for request_id in heard)
        verdict.rows_unheard = sum(request_id not in heard for request_id in finals)

    def _row_of(self, ask: Ask, tried: Try, found: list[Row]) -> None:
        verdict, what = self.verdict, f"{ask.id} {ask.tenant} {ask.door} request {tried.request_id}"
        if not found:
            if self._died(tried):
                verdict.died.add(f"{what}: in the middle of its answer")
            else:
                verdict.lost_rows.add(f"{what}: status {tried.status}, source {tried.source}, complete {tried.complete}")
            return
        if len(found) > 1:
            verdict.doubled.add(f"{what} has {len(found)} final rows")
        row = found[0]
        if tried.complete and not (ask.outcome == "told" and tried is ask.tries[-1]):
            said = (tried.status if tried.status != 529 else 503, tried.source or "none")
            if (row.status, row.source) != said:
                verdict.misbilled.add(f"{what}: the client was told {said}, the ledger {(row.status, row.source)}")
            if tried.cost is not None and tried.cost != row.cost:
                verdict.misbilled.add(f"{what}: the client was told {tried.cost} micro-dollars, the ledger {row.cost}")
        if row.tenant != ask.tenant or row.ask_id != ask.id:
            verdict.misbilled.add(f"{what}: the row is of {row.tenant} {row.ask_id}")

    def _bills(self, rows: Sequence[Row]) -> None:
        """What the provider answered whole is in the ledger, at what the provider counted."""
        verdict = self.verdict
        billed: dict[tuple[str | None, str | None], list[Row]] = defaultdict(list)
        for row in rows:
            if row.attempt > 0:
                billed[row.ask_id, row.upstream_model].append(row)
        answered: dict[tuple[str, str], list[Served]] = defaultdict(list)
        for one in self._served:
            if one.complete:
                answered[one.ask_id, one.model].append(one)
        for key, served in answered.items():
            found = billed.get(key, [])
            costs = Counter(row.cost for row in found if row.usage_source == "provider")
            given_up = sum(row.usage_source == "estimated" and row.error == "upstream_timeout" for row in found)
            spare = len(found) - len(served)
            for one in served:
                verdict.served_cost += one.cost
                if costs[one.cost]:
                    costs[one.cost] -= 1
                    verdict.billed_cost += one.cost
                elif spare < 0:
                    spare += 1
                    self._unbilled(one)
                elif given_up:
                    given_up -= 1
                    verdict.late_cost += one.cost
                    verdict.late.add(f"{one.ask_id} at {one.model}: answered for {one.cost} when it had been given up")
                else:
                    said = [(row.status, row.error, row.usage_source, row.cost) for row in found]
                    verdict.misbilled.add(f"{one.ask_id} at {one.model}: the provider answered for {one.cost}, the ledger says {said}")

    def _unbilled(self, one: Served) -> None:
        """Only a try that was under way when its worker died explains it, and only once."""
        ask = self._asks.get(one.ask_id)
        tenant = ask.tenant if ask else "?"
        died = [at for at, tried in enumerate(ask.tries) if self._died(tried) and (one.ask_id, at) not in self._excused] if ask else []
        if died:
            self._excused.add((one.ask_id, died[0]))
            self.verdict.died_cost[tenant] += one.cost
        else:
            self.verdict.lost_rows.add(f"{one.ask_id} of {tenant} at {one.model}: answered for {one.cost} micro-dollars, and no row")
