"""Seeded lives of a company whose ledger is lost and put back from a back-up, with crashes, freezes and outages.

The end equals the source, no value comes back that was passed, nothing is made twice, and the books balance.
`TIELINE_FAULTS=long` plays many more.
"""

import asyncio
import os
from functools import partial
from random import Random

import pytest
from tests.promises.checks import sales_history
from tests.runner.cells import order, run_in_virtual_time, sales
from tests.runner.company import KINDS, SQL, Company, Order

from tieline.connectors.memory import Table
from tieline.errors import Unavailable
from tieline.testing import Trial, Worker
from tieline.testing.oracle import History, accounts, out_of_order

BLOCK = 10
SEEDS = 1_000 if os.environ.get("TIELINE_FAULTS") == "long" else 60
LIMIT = 3_000.0
KEYS = [str(number) for number in range(8)]


class Life:
    """One seed: what it is about, and how it goes."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.kind = self.chance.choice([SQL, *KINDS])
        self.via = self.chance.choice(["direct", "bus", "far"])
        orders = Table(id="number", page=self.chance.choice([2, 2_000]), incremental=self.chance.random() < 0.8)
        self.company = Company(erp=self.kind, orders=orders)
        self.company.scene.flow(Order, "shop", "erp", via=self.via)
        self.went = {key: [None] for key in KEYS}  # what each order went through at the shop
        self.known = set(KEYS)  # orders that may be deleted: of others, nobody would know any more
        self.wild = self.chance.random() < 0.7
        self.unrest = False
        self.trial = Trial(self.company.scene.landscape(), faults=self.faults, foreign=["far"])
        self.workers: list[Worker] = []
        self.about = f"{self.kind.name} via {self.via}"

    def faults(self, worker: Worker, place: str) -> float:
        """See `Faults`."""
        if not self.unrest:
            return 0.0
        dice = self.chance.random()
        if dice < 0.0015:
            worker.crash()
        elif dice < 0.002 and self.kind is SQL:
            worker.freeze(self.chance.choice([5.0, 60.0, 400.0]))
        return 0.05 * self.chance.random() if dice < 0.05 else 0.0

    def edit(self) -> None:
        """A user makes, changes or deletes an order."""
        key = self.chance.choice(KEYS)
        if self.went[key][-1] is not None and key in self.known and self.chance.random() < 0.35:
            self.company.scene.store("shop").drop("orders", key)
            self.went[key].append(None)
        else:
            total = self.chance.randrange(1, 50)
            order(self.company, key, total)
            self.went[key].append(total)

    async def pass_time(self, turns: int) -> None:
        """Users and workers come and go."""
        erp = self.company.scene.store("erp")
        for _ in range(turns):
            if self.chance.random() < 0.5:
                self.edit()
            able = [worker for worker in self.workers if not worker.over_by_itself and not worker.frozen]
            if not able or (len(able) < 2 and self.chance.random() < 0.1):
                self.workers.append(self.trial.start())
            if self.chance.random() < 0.05:
                erp.failure = Unavailable("down") if erp.failure is None else None
            await asyncio.sleep(2 * self.chance.random())

    async def lose(self) -> None:
        """A back-up is made; some time later the ledger and its workers are lost, and users go on."""
        backup = self.trial.ledger.back_up()
        seen = await self.trial.look(lambda s: s.seen.by_key("shop.order", KEYS))
        self.known = {row.key for row in seen}
        await self.pass_time(self.chance.randrange(1, 15))
        self.unrest = False
        for worker in self.workers:
            if worker.frozen and self.via != "far":
                continue  # it thaws one day, and is refused by the target; a bus elsewhere would not know it
            if self.chance.random() < 0.5 or worker.frozen:
                worker.crash()
            elif not worker.over_by_itself:
                await worker.stop()
        self.workers.clear()
        for _ in range(self.chance.randrange(4)):
            self.edit()
        self.trial.restore(backup)
        self.unrest = self.wild
        await asyncio.sleep(self.chance.choice([0, 5, 30]))

    async def run(self) -> list[str]:
        """Live, and give what is wrong at the end."""
        async with self.trial:
            history = sales_history(self.company, self.trial)
            for _ in range(self.chance.choice([1, 1, 2])):
                self.unrest = self.wild
                await self.pass_time(self.chance.randrange(3, 15))
                await self.lose()
                await self.trial.recover()
                if self.chance.random() < 0.3:
                    await self.trial.recover()
                await self.pass_time(self.chance.randrange(1, 10))
                await self.come_to_rest()
                if wrong := await self.judge(history):
                    return wrong
                self.known = set(KEYS)
        return []

    async def come_to_rest(self) -> None:
        """No more unrest, also none of those that are frozen."""
        self.unrest = False
        self.company.scene.store("erp").failure = None
        self.workers.append(self.trial.start())
        await self.trial.settle(LIMIT)
        if any(worker.frozen for worker in self.trial.workers):
            await asyncio.sleep(500)
            await self.trial.settle(LIMIT)

    async def judge(self, history: History) -> list[str]:
        """What is wrong with target and books."""
        truth = {key: (went[-1], "") for key, went in self.went.items() if went[-1] is not None}
        found = sales(self.company)
        wrong = [] if found == truth else [f"should be {truth}, is {found}"]
        wrong += [f"{key} is there twice" for key in history.doubles]
        back = {key: out_of_order(went, history.of(key)) for key, went in self.went.items()}
        wrong += [f"{key} went back to {text}" for key, text in back.items() if text]
        books = await self.trial.look(accounts)
        wrong += [str(account) for account in books if not account.balanced or account.parked]
        return wrong + [f"{leg}: {what}" for leg, what in (await self.trial.strangers()).items()]


async def live(seed: int) -> None:
    """Play one seed.

    Raises:
        AssertionError: with what it was about, what happened, and what is wrong.
    """
    life = Life(seed)
    wrong = await life.run()
    assert not wrong, "\n".join([f"seed {seed}: {life.about}", *life.trial.trace[-120:], *wrong])


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_whatever_is_lost_the_end_is_right(first: int) -> None:
    for seed in range(first, first + BLOCK):
        run_in_virtual_time(partial(live, seed))
