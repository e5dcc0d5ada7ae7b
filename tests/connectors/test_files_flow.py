"""Files at both ends of a flow: dropped, taken over, mapped, and written as another system's state."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.connectors.files_exchange import names, put

from tieline.adapter import Adapter
from tieline.buses.sql import SqlBus
from tieline.connectors.files import Csv, Files, JsonLines
from tieline.entity import Entity, Money
from tieline.flow import Flow, Target
from tieline.ledgers.sqlite import SqliteLedger
from tieline.message import Reason
from tieline.runner import Runner
from tieline.settings import SystemSettings
from tieline.system import Landscape, SourceSettings, System


class Order(Entity, key="number"):
    number: str
    total: Money


shop = Adapter(
    Files(dropped=Csv("in/*.csv", id="number", mode="drop"), listed=Csv("orders.csv", id="number")),
)
erp = Adapter(Files(orders=JsonLines("erp.jsonl", id="id")))


@shop.source(Order, "dropped")
def dropped(record: dict[str, Any]) -> Order:
    return Order(number=record["number"], total=Money(record["total"], "EUR"))


@shop.source(Order, "listed")
def listed(record: dict[str, Any]) -> Order:
    return dropped(record)


@erp.sink(Order, "orders", match="id")
def sale(order: Order) -> dict[str, Any]:
    return {"id": order.number, "amount": order.total.amount}


@dataclass
class Company:
    folder: Path
    source: str
    settings: SourceSettings = field(default_factory=lambda: SourceSettings(sweep=0))

    def landscape(self) -> Landscape:
        def system(name: str, adapter: Adapter) -> System:
            address = SystemSettings(name=name, url=f"file://{self.folder}")
            return System(name=name, adapter=adapter, settings=address, sources={self.source: self.settings})

        flow = Flow("orders", "Order", "shop", (Target("erp"),), source_name=self.source)
        return Landscape(
            name="company",
            folder=self.folder,
            systems={"shop": system("shop", shop), "erp": system("erp", erp)},
            flows={"orders": flow},
            entities={"Order": Order},
        )

    def run_once(self) -> dict[str, str]:
        """Run to the end, and give what is parked: the record and the reason."""

        async def work() -> dict[str, str]:
            ledger = SqliteLedger("sqlite:///ledger.db", self.folder)
            try:
                runner = Runner(self.landscape(), ledger, {"direct": SqlBus(ledger, shared=True)})
                await asyncio.wait_for(runner.run(once=True), 60)
                source = f"shop.{self.source}"
                rows = await ledger.transact(lambda s: s.parked.list(source))
                return {row.key: row.error for row in rows if row.reason is Reason.DEAD}
            finally:
                await ledger.close()

        return asyncio.run(work())

    def sales(self) -> str:
        path = self.folder / "erp.jsonl"
        return path.read_text() if path.exists() else ""


def test_dropped_files_arrive(tmp_path):
    """And leave with the next look; a bad row is parked with its place, and healed by a mended file."""
    company = Company(tmp_path, "dropped")
    put(tmp_path / "in/1.csv", "number,total\n1,5.00\n2\n3,7\n")
    parked = company.run_once()
    assert parked.keys() == {"2"}
    assert "1.csv:3: has 1 of 2 fields" in parked["2"]
    assert company.sales() == '{"id":"1","amount":5.00}\n{"id":"3","amount":7.00}\n'
    put(tmp_path / "in/1.csv", "number,total\n1,5.00\n2,6.50\n3,7\n")
    assert company.run_once() == {}
    assert company.sales().splitlines()[-1] == '{"id":"2","amount":6.50}'
    company.run_once()
    assert names(tmp_path / "in") == ["done/1.csv", "failed/1.csv", "failed/1.csv.error"]


def test_a_state_file_is_followed(tmp_path):
    """Changes and new rows at every look, deletes with the sweep; a bad row is no delete."""
    company = Company(tmp_path, "listed", SourceSettings(sweep=0.001, brake=1.0))
    put(tmp_path / "orders.csv", "number,total\n1,5\n2,6\n3,7\n4,8\n", age=90)
    assert company.run_once() == {}
    assert company.sales().count("\n") == 4
    put(tmp_path / "orders.csv", "number,total\n1,5.50\n2\n3,7\n5,9\n", age=80)
    parked = company.run_once()
    assert parked.keys() == {"2"}
    assert company.sales() == (
        '{"id":"1","amount":5.50}\n{"id":"2","amount":6.00}\n{"id":"3","amount":7.00}\n{"id":"5","amount":9.00}\n'
    )
