"""One seeded interleaving: a seed decides what the people, the systems and the processes do, and when.

`play(seed)` runs it in virtual time and gives what is wrong with the end of it, and the trace.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
from tests.runner.company import CREATING, KINDS, SQL, Company, Customer, Kind, Order, Payment, invoices

from tieline.connector import Change, Record
from tieline.connectors import memory
from tieline.connectors.memory import Table
from tieline.entity import Money
from tieline.errors import InDoubt, LedgerUnavailable, Reject, RetryLater, Throttled, TielineError, Unavailable
from tieline.ledger import ParkedRow
from tieline.message import Message, Reason, message_id, unpack_message
from tieline.runner.gaps import Gap
from tieline.testing import Crash, Trial, Worker
from tieline.testing.oracle import History, accounts, differences, out_of_order, twice, watch

LENGTH = 12.0  # seconds in which things go wrong
GAPS = {gap.name for gap in Gap}


@dataclass(slots=True)
class Verdict:
    """How a seed ended. `wrong` is empty where it is right."""

    seed: int
    about: str
    wrong: list[str]
    trace: list[str]
    crashed: Counter[str]
    seconds: float = 0.0

    def __str__(self) -> str:
        end = "\n".join(self.trace[-200:])
        wrong = "\n".join(f"  - {one}" for one in self.wrong)
        return f"seed {self.seed} ({self.about})\n{end}\n\nseed {self.seed} is wrong:\n{wrong}"


@dataclass(slots=True)
class Shop:
    """The people at the source. They remember everything that they ever did."""

    play: "Play"
    histories: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    edits: int = 0

    def put(self, resource: str, key: str, record: Record) -> None:
        """Write a record down as a user of the shop would."""
        id = {"orders": "number", "customers": "email", "payments": "id"}[resource]
        self.play.store("shop").put(resource, {id: key, **record}, id=id)
        self._remember(resource, key, content_of(resource, {id: key, **record}))

    def drop(self, resource: str, key: str) -> None:
        """Delete one."""
        self.play.store("shop").drop(resource, key)
        self._remember(resource, key, None)

    def _remember(self, resource: str, key: str, content: Any) -> None:
        self.edits += 1
        self.histories.setdefault((resource, key), []).append(content)
        self.play.trial.note(f"shop {resource} {key} = {content}")

    def now(self, resource: str) -> dict[str, Record]:
        """What stands there."""
        return self.play.store("shop").rows(resource)


def content_of(resource: str, record: Record) -> Any:
    """What matters of a record at the shop, in a target's terms."""
    match resource:
        case "orders":
            return (str(record["total"]), record.get("customer"), record.get("note", ""))
        case "customers":
            return (record["name"], record.get("note", ""))
        case _:
            return (record["account"], str(record["amount"]), record.get("note", ""))


class Play:
    """One seed's play."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(seed)
        self.seed = seed
        memory.forget()
        self.erp, self.bi = rng.choice(KINDS), rng.choice(KINDS)
        orders = Table(
            id="number",
            page=rng.choice([2, 5, 2_000]),
            ordered=rng.random() < 0.7,
            incremental=rng.random() < 0.8,
            tells_deletes=rng.random() < 0.4,
            lookup=rng.random() < 0.8,
        )
        self.company = Company(self.erp, self.bi, orders=orders)
        scene = self.company.scene
        scene.every = 0.7
        via = rng.choice(["direct", "bus", "far"])
        targets = ["erp", "bi"] if rng.random() < 0.5 else ["erp"]
        scene.flow(Order, "shop", *targets, via=via)
        self.references = rng.random() < 0.4
        if self.references:
            scene.flow(Customer, "shop", *targets, via=rng.choice(["direct", "bus"]))
        self.payments = rng.random() < 0.4
        if self.payments:
            scene.flow(Payment, "shop", "bi", via=rng.choice(["direct", "bus", "far"]))
        self.invoices = rng.random() < 0.3
        if self.invoices:
            self.company.invoicing("bi", via=rng.choice(["direct", "bus"]))
        self.calm = False
        self.crashes = rng.choice([0, 1, 3, 6])
        self.freezes = rng.choice([0, 0, 1, 2])
        self.transients = rng.choice([0.0, 0.1])
        self.doubts = rng.choice([0.0, 0.0, 0.1])
        self.lateness = rng.choice([0.0, 0.0, 0.1])
        self.ledger_losses = rng.choice([0, 0, 2, 5])
        self.bad = rng.choice([0.0, 0.1])
        self.moves = rng.choice([0, 0, 1, 2])
        self.backfills = rng.choice([0, 0, 1, 2])
        self.decisions = rng.choice([0, 0, 4])
        self.outages = rng.choice([0, 0, 1, 2])
        self.count = rng.choice([1, 1, 2])
        self.keys = rng.choice([1, 2, 4])
        self.froze = False
        self.parties: dict[tuple[str, str], str] = {}  # which customer a target's id belongs to
        self.crashed: Counter[str] = Counter()
        self.touched: dict[tuple[str, str], int] = {}  # leg and key: number of edits when somebody decided
        self.about = (
            f"{self.erp.name}/{self.bi.name}, {via}, {len(targets)} targets"
            f"{', customers' * self.references}{', payments' * self.payments}{', invoices' * self.invoices}"
            f", {self.count} workers, {self.crashes} crashes, {self.freezes} freezes, {self.moves} moves"
            f", {self.backfills} backfills, {self.decisions} decisions, {self.outages} outages"
        )

    def store(self, name: str) -> memory.Store:
        """What stands behind a system."""
        return self.company.scene.store(name)

    # -- chance ------------------------------------------------------------------------------------------

    def faults(self, worker: Worker, place: str) -> float:
        """What happens at a point: usually nothing, sometimes time passes, rarely worse."""
        rng = self.rng
        if self.calm:
            return 0.0
        at_gap = place in GAPS
        chance = rng.random()
        if self.crashes and chance < (0.02 if at_gap else 0.003):
            self.crashes -= 1
            self.crashed[place] += 1
            worker.crash(f"at {place}")
        elif self.freezes and chance > (0.99 if at_gap or "write" in place else 0.999):
            self.freezes -= 1
            self.froze = True
            worker.freeze(rng.choice([1.0, 4.0, 7.0]), f"at {place}")
        elif chance > 0.75:
            return rng.choice([0.001, 0.01, 0.05])
        return 0.0

    def spoil(self, system: str, resource: str, change: Change) -> TielineError | None:
        """Errors that single changes meet."""
        record = change.record or {}
        if record.get("note") == "bad":
            return Reject("it is bad", field="note")
        if not self.calm and self.rng.random() < self.transients:
            return RetryLater("not now")
        return None

    def blur(self, system: str, resource: str, change: Change) -> TielineError | None:
        """Calls that worked, of which nobody hears."""
        if not self.calm and self.rng.random() < self.doubts:
            return InDoubt("the answer was lost")
        return None

    def late(self, system: str, resource: str) -> float:
        """Calls that are cut off and land all the same, within the settling time."""
        if self.calm or self.rng.random() >= self.lateness:
            return 0.0
        kind = self.erp if system == "erp" else self.bi
        alone = not (self.freezes or self.froze or self.moves or self.crashed or self.crashes)
        # Where nothing is claimed, only the lease keeps a successor from overtaking a call of a dead worker.
        longest = 8.0 if alone or not kind.upsert else 1.2
        return self.rng.uniform(0.1, longest)

    def ledger_fails(self, worker: Worker) -> str:
        """The ledger's connection is lost at times, before or after a commit."""
        if self.calm or not self.ledger_losses or self.rng.random() > 0.003:
            return ""
        self.ledger_losses -= 1
        when = self.rng.choice(["before", "after"])
        self.trial.note(f"{worker.name} loses the ledger {when} a commit")
        return when

    # -- the play ----------------------------------------------------------------------------------------

    async def run(self) -> list[str]:
        """Play it, and judge the end."""
        self.trial = Trial(
            self.company.scene.landscape(),
            faults=self.faults,
            spoil=self.spoil,
            blur=self.blur,
            late=self.late,
            ledger_fails=self.ledger_fails,
            foreign=["far"],
        )
        self.shop = Shop(self)
        self.histories = self._watch()
        async with self.trial:
            people = [
                self._users(),
                self._supervisor(),
                self._movers(),
                self._operators(),
                self._outages("erp"),
                self._outages("bi"),
                self._outages("shop"),
                self._backfillers(),
            ]
            tasks = [asyncio.create_task(one) for one in people]
            await asyncio.sleep(LENGTH)
            self.calm = True
            self.trial.note("from now on nothing goes wrong any more")
            for name in ("shop", "erp", "bi"):
                self.store(name).failure = None
            for task in tasks[:1] + tasks[2:]:
                await task
            try:
                await self._come_to_rest()
                return await self._judge()
            except AssertionError as error:
                return [str(error)]
            finally:
                tasks[1].cancel()

    def _watch(self) -> dict[tuple[str, str], History]:
        def reference(record: Record) -> str:
            return str(record["reference"])

        found: dict[tuple[str, str], History] = {}
        for name in ("erp", "bi"):

            def party_of(record: Record, name: str = name) -> Any:
                who = record["party"]
                return None if who is None else self.parties.get((name, who), who)

            def party(record: Record, name: str = name) -> Any:
                # A customer that was deleted and came back has a new id there; orders keep the old one.
                self.parties[name, record["id"]] = record["reference"]
                return record["name"], record["note"]

            tables = {
                "parties": (reference, party),
                "sales": (reference, lambda r, p=party_of: (str(r["total"]), p(r), r["note"])),
                "receipts": (reference, lambda r: (r["account"], str(r["amount"]), r["note"])),
                "bills": (reference, lambda r: str(r["total"])),
            }
            note = self._note_for(name)
            for resource, history in watch(self.store(name), note, **tables).items():
                found[name, resource] = history
        return found

    def _note_for(self, name: str) -> Any:
        return lambda what: self.trial.note(f"  {name} {what.strip()}")

    # -- who does something ---------------------------------------------------------------------------------

    async def _users(self) -> None:
        rng = self.rng
        for key in range(3):
            if self.references and rng.random() < 0.6:
                self.shop.put("customers", f"c{key}", {"name": "N"})
        payments = 0
        for _ in range(rng.choice([4, 12, 30])):
            await asyncio.sleep(rng.choice([0.0, 0.01, 0.3, 1.0]))
            if asyncio.get_running_loop().time() > LENGTH:
                return
            chance = rng.random()
            if self.payments and chance < 0.3:
                payments += 1
                self._pay(payments)
            elif self.references and chance < 0.45:
                key = f"c{rng.randrange(3)}"
                if rng.random() < 0.2:
                    self.shop.drop("customers", key)
                else:
                    self.shop.put("customers", key, {"name": rng.choice("NM"), "note": self._note()})
            else:
                self._order(f"o{rng.randrange(self.keys)}")

    def _note(self) -> str:
        return "bad" if self.rng.random() < self.bad else ""

    def _order(self, key: str) -> None:
        rng = self.rng
        if rng.random() < 0.2:
            self.shop.drop("orders", key)
            return
        who = f"c{rng.randrange(3)}" if self.references and rng.random() < 0.6 else None
        total = rng.choice(["1.00", "2.00", "3.00"])
        self.shop.put("orders", key, {"total": total, "customer": who, "note": self._note()})

    def _pay(self, number: int) -> None:
        account = self.rng.choice("ab")
        self.shop.put("payments", f"p{number:03}", {"account": account, "amount": "1.00", "note": self._note()})

    async def _supervisor(self) -> None:
        rng = self.rng
        trial = self.trial
        for _ in range(self.count):
            trial.start()
            await asyncio.sleep(rng.choice([0.0, 0.5]))
        while True:
            await asyncio.sleep(0.1)
            alive = [worker for worker in trial.workers if not worker.over_by_itself]
            done = [worker for worker in trial.workers if worker.failure is not None]
            if done:
                return
            if len(alive) < self.count:
                await asyncio.sleep(rng.choice([0.0, 1.0, 4.0]))
                trial.start()

    async def _movers(self) -> None:
        rng, scene = self.rng, self.company.scene
        for _ in range(self.moves):
            await asyncio.sleep(rng.uniform(0.5, 5.0))
            name = rng.choice(sorted(scene.flows))
            via = rng.choice(["direct", "bus", "far"])
            if rng.random() < 0.5:
                await self._move(name, via)
                continue
            self.trial.note(f"flow {name} goes via {via} from now on")
            scene.change(name, via=via)
            self.trial.landscape = scene.landscape()
            for worker in list(self.trial.workers):
                if not worker.dead and rng.random() < 0.8:
                    worker.crash("(new version)")

    async def _move(self, name: str, via: str) -> None:
        """Move a flow while it runs; sometimes the file is told."""
        rng, partitions = self.rng, self.rng.choice([1, 2, 2, 3])
        self.trial.note(f"flow {name} is moved to {via}/{partitions} while it runs")
        with suppress(LedgerUnavailable):
            await self.trial.move(name, via, partitions)
        if rng.random() < 0.5:
            self.company.scene.change(name, via=via, partitions=partitions)
            self.trial.landscape = self.company.scene.landscape()

    async def _operators(self) -> None:
        rng = self.rng
        for _ in range(self.decisions):
            await asyncio.sleep(rng.uniform(0.5, 3.0))
            rows = await self.trial.parked()
            rows = [row for row in rows if ">" in row.leg]
            if rows:
                row = rng.choice(rows)
                await asyncio.sleep(rng.choice([0.0, 0.5]))  # looking at it takes a moment
                await self._decide(row, rng.choice(["replay", "drop", "edit"]))

    async def _decide(self, row: ParkedRow, decision: str) -> None:
        edited = b""
        if decision == "edit":
            message = unpack_message(row.message)
            if message.deleted:
                return
            content = msgspec.json.decode(message.data)
            content.pop("note", None)
            new = self._edited(message, msgspec.json.encode(content))
            edited = msgspec.json.encode(new)
        if await self.trial.decide(row, decision, edited) and decision != "replay":
            self.touched[row.leg, row.key] = self.shop.edits

    @staticmethod
    def _edited(message: Message, data: bytes) -> Message:
        version = message.version._replace(edit=message.version.edit + 1)
        new_id = message_id("edit", message.key, message.id, data)
        return msgspec.structs.replace(message, id=new_id, version=version, data=msgspec.Raw(data))

    async def _outages(self, name: str) -> None:
        rng = self.rng
        for _ in range(self.outages):
            await asyncio.sleep(rng.uniform(0.0, 6.0))
            if self.calm or rng.random() < 0.5:
                continue
            error = rng.choice([Unavailable("down"), Throttled("slowly", after=1.5)])
            self.store(name).failure = error
            self.trial.note(f"{name} is down")
            await asyncio.sleep(rng.uniform(0.3, 3.0))
            self.store(name).failure = None
            self.trial.note(f"{name} is up")

    async def _backfillers(self) -> None:
        rng = self.rng
        for _ in range(self.backfills):
            await asyncio.sleep(rng.uniform(0.5, 5.0))
            alive = [w for w in self.trial.workers if not w.dead and not w.frozen]
            names = sorted(name for name, flow in self.company.scene.flows.items() if flow.source == "shop")
            if alive:
                name, again = rng.choice(names), rng.random() < 0.5
                self.trial.note(f"backfill {name}{' again' if again else ''}")
                with suppress(Crash, LedgerUnavailable):  # it may die while it is asked
                    await alive[0].runner.backfill(name, again=again and name != "payments")

    # -- the end ----------------------------------------------------------------------------------------------

    async def _come_to_rest(self) -> None:
        """Mend what is bad, so that everything can come to an end."""
        rng = self.rng
        for key in range(3):
            if self.references:
                self.shop.put("customers", f"c{key}", {"name": f"final {key}"})
        for key, record in self.shop.now("orders").items():
            decided = any(of == key for _, of in self.touched)
            if (record["note"] == "bad" or decided) and rng.random() < 0.6:
                rest = {name: value for name, value in record.items() if name != "number"}
                self.shop.put("orders", key, rest | {"note": "", "total": f"{100 + rng.randrange(100)}.00"})
        await self.trial.settle()
        await self.trial.settle()  # where no record can be looked up, two sweeps must agree that it is gone
        while rows := [row for row in await self.trial.parked(reason=Reason.DEAD) if row.leg.startswith("payments>")]:
            for row in rows:
                await self.trial.decide(row, "drop")
                self.touched[row.leg, row.key] = self.shop.edits
            await self.trial.settle()

    async def _judge(self) -> list[str]:
        wrong = []
        for worker in self.trial.workers:
            if worker.failure is not None:
                wrong.append(f"{worker.name} ended: {worker.failure!r}")
        for account in await self.trial.look(accounts):
            if not account.balanced:
                wrong.append(f"the books do not balance: {account}")
        dead = {(row.leg, row.key): row for row in await self.trial.parked()}
        pairs = {"orders": "sales", "customers": "parties", "payments": "receipts"}
        for name, flow in self.company.scene.flows.items():
            if name not in pairs:
                continue
            for target in flow.targets:
                if target.system in self.company.scene.processes:
                    continue
                wrong += self._judge_leg(name, target.system, pairs[name], dead)
        if self.invoices:
            wrong += self._judge_invoices()
        return wrong

    def _judge_leg(self, flow: str, target: str, table: str, dead: dict[tuple[str, str], ParkedRow]) -> list[str]:
        leg = f"{flow}>{target}"
        kind = self.erp if target == "erp" else self.bi
        history = self.histories[target, table]
        history.look(self.store(target))
        skipped = set()
        expected = {key: content_of(flow, record) for key, record in self.shop.now(flow).items()}
        for key in list(expected):
            if expected[key][-1] == "bad":
                skipped.add(key)
                if (leg, key) not in dead and (leg, key) not in self.touched:
                    return [f"{leg} {key} is bad, and neither applied nor parked"]
        for (of, key), edits in self.touched.items():
            if of == leg and not self._edited_since(flow, key, edits):
                skipped.add(key)
        found = history.now()
        wrong = differences(
            {k: v for k, v in expected.items() if k not in skipped},
            {k: v for k, v in found.items() if k not in skipped},
        )
        for (of, key), row in dead.items():
            if of == leg and key not in skipped and row.reason is Reason.DEAD:
                wrong.append(f"{key} is healthy at the target, and still parked: {row.error}")
        late = self.froze and not kind.transactional
        for key in {key for key, _ in history.effects}:
            source = self.shop.histories[flow, key]
            if not late and (leg, key) not in self.touched and (bad := out_of_order(source, history.of(key))):
                wrong.append(f"{key} went backwards: {bad}")
        if flow == "payments" and not late:
            wrong += self._judge_events(history, kind)
        if history.doubles:
            wrong.append(f"two rows at a time of {sorted(set(history.doubles))}")
        if kind.transactional and not self.backfills and not self.froze:
            for key in {key for key, _ in history.effects}:
                again = [c for c in twice(history.of(key)) if c is not None]
                source = self.shop.histories[flow, key]
                if again and (leg, key) not in self.touched and len(source) == len(set(source)):
                    wrong.append(f"{key} was written twice as {again}")
        return [f"{leg}: {one}" for one in wrong]

    def _edited_since(self, flow: str, key: str, edits: int) -> bool:
        """Whether the final edit, which is new for certain, came after a decision."""
        record = self.shop.now(flow).get(key)
        return record is not None and content_of(flow, record)[0].startswith("1") and len(str(record["total"])) > 5

    def _judge_events(self, history: History, kind: Kind) -> list[str]:
        wrong = []
        last: dict[str, str] = {}
        for key, content in history.effects:
            if content is None:
                continue
            account = content[0]
            repeated = key == last.get(account) and not kind.transactional  # a step, or a full update again
            if key <= last.get(account, "") and not repeated:
                wrong.append(f"event {key} of {account} came after {last[account]}")
            last[account] = key
        return wrong

    def _judge_invoices(self) -> list[str]:
        history = self.histories["bi", "bills"]
        history.look(self.store("bi"))
        expected = {}
        for key, record in self.shop.now("orders").items():
            order = Order(number=key, total=Money(record["total"], "EUR"))
            expected |= {one.number: str(one.total.amount) for one in invoices(order)}
        skipped = {key for leg, key in self.touched if leg == "invoices>bi"}
        wrong = differences(
            {k: v for k, v in expected.items() if k not in skipped},
            {k: v for k, v in history.now().items() if k not in skipped},
        )
        if history.doubles:
            wrong.append(f"two rows at a time of {sorted(set(history.doubles))}")
        return [f"invoices>bi: {one}" for one in wrong]


__all__ = ["CREATING", "SQL", "Decimal", "Play", "Verdict"]
