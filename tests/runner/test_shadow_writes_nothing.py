"""A shadow has no way to write: neither at the target, nor anything of the ledger that decides about a message."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.runner.cells import bad_notes, books, in_virtual_time, order, sales
from tests.runner.company import KINDS, Company, Customer, Kind, Order
from tests.runner.test_shadow import seen

from tieline.buses.sql import SqlBus
from tieline.ledger import Fence, Stores
from tieline.runner.plan import build
from tieline.runner.readonly import ReadOnly
from tieline.runner.shadowing import ShadowLeg
from tieline.runner.shadows import Verdict, shadow_of
from tieline.runner.shares import Shares
from tieline.testing import Trial

OWN = "shadow"
LOOKS = {"get", "all", "of_source", "states", "totals", "by_key", "starting", "depth", "read", "holders", "alive"}


class Wrote(BaseException):
    """Something was changed that a shadow has no business with. Nothing catches it."""


class Watched:
    """The ledger's parts: what is not only looked at must be the shadow's own."""

    def __init__(self, part: Any, name: str) -> None:
        self._part = part
        self._name = name

    def __getattr__(self, method: str) -> Any:
        real = getattr(self._part, method)

        def call(*arguments: Any, **more: Any) -> Any:
            own = self._name == "leases" or any(OWN in str(one) for one in arguments)
            if method not in LOOKS and not own:
                raise Wrote(f"{self._name}.{method}{arguments}")
            return real(*arguments, **more)

        return call


class WatchedLedger:
    """A ledger whose parts are watched."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def transact(self, work: Callable[[Any], Any], fences: Sequence[Fence] = ()) -> Any:
        def watched(stores: Stores) -> Any:
            parts = {name: Watched(getattr(stores, name), name) for name in Stores.__annotations__}
            seen = type("Seen", (), {**parts, "now": staticmethod(stores.now), "notify": staticmethod(stores.notify)})
            return work(seen)

        return await self._ledger.transact(watched, fences)


class WatchedTarget:
    """A connector of which everything but looking raises."""

    def __init__(self, connector: Any) -> None:
        self._connector = connector

    def __getattr__(self, name: str) -> Any:
        if name not in {"capabilities", "lookup", "check"}:
            raise Wrote(f"target.{name}")
        return getattr(self._connector, name)

    @asynccontextmanager
    async def transaction(self) -> Any:
        async with self._connector.transaction() as tx:
            yield WatchedTransaction(tx)


class WatchedTransaction:
    """A transaction in which everything but looking at held raises."""

    def __init__(self, tx: Any) -> None:
        self.held = tx.held

    def __getattr__(self, name: str) -> Any:
        raise Wrote(f"transaction.{name}")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_shadow_changes_nothing_but_its_own_books(kind: Kind) -> None:
    """Equal, superseded, deleted, parked, references: whatever it meets, it calls nothing that writes."""

    @in_virtual_time
    async def check() -> None:
        company = Company(erp=kind)
        company.scene.flow(Customer, "shop", "erp")
        company.scene.flow(Order, "shop", "erp")
        landscape = company.scene.landscape()
        async with Trial(landscape, spoil=bad_notes) as trial:
            worker = trial.start()
            await trial.settle()
            worker.runner._shadows._plans.clear()  # only the one below has shadows
            await trial.cast("orders", "bus")
            shop = company.scene.store("shop")
            shop.put("customers", {"email": "a", "name": "A"}, id="email")
            for turn in range(12):
                order(company, str(turn % 4), turn, "bad" if turn % 4 == 3 else "")
                if turn % 3 == 0:
                    await asyncio.sleep(1.5)
            row = {"number": "9", "total": 3, "customer": "a"}
            shop.put("orders", row, id="number")
            await asyncio.sleep(3)
            shop.drop("orders", "1")
            await trial.settle()
            before = sales(company), await books(trial)
            connectors = {s.name: s.adapter.connector.open(s.settings) for s in landscape.systems.values()}
            plan = next(leg for p in build(landscape, connectors) for leg in p.legs if leg.name == "orders>erp")
            assert plan.connector is not None
            plan.connector = WatchedTarget(plan.connector)  # type: ignore[assignment]
            shadow = shadow_of(await trial.look(lambda s: s.legs.get("orders>erp")))
            assert shadow is not None
            ledger: Any = WatchedLedger(trial.ledger)
            shares = Shares(ledger, "beside", 60.0)
            await shares.join()
            leg = ShadowLeg(plan, shadow, ledger, {"main": SqlBus(ledger, shared=True)}, shares)
            stopping = asyncio.Event()
            running = asyncio.create_task(leg.run(stopping))
            found = (await seen(trial)).books
            stopping.set()
            await running
            assert (found.differs, found.waiting) == (False, 1)
            assert found.verdicts[Verdict.EQUAL] >= 4
            assert found.verdicts[Verdict.SUPERSEDED] >= 1
            assert (sales(company), await books(trial)) == before

    check()


@pytest.mark.parametrize("method", ["write", "call", "transaction"])
def test_its_connection_refuses_to_write(method: str) -> None:
    """Were the mapping or anything else to try."""

    @in_virtual_time
    async def check() -> None:
        system = Company().scene.systems["erp"]
        target = ReadOnly(system.adapter.connector.open(system.settings))
        arguments: dict[str, tuple[Any, ...]] = {
            "write": ("sales", []),
            "call": ("sales", "post", []),
            "transaction": (),
        }
        with pytest.raises(Exception, match="may only look"):
            await getattr(target, method)(*arguments[method])

    check()
