"""Workers that must not work, and workers that share: refused clearly, standing down, polling once."""

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from tests.badinput import company
from tests.connectors.rest_server import Server, serving

from tieline import Adapter
from tieline.connectors.rest import Offset, Resource, Rest
from tieline.errors import ConfigurationError
from tieline.flow import Robustness
from tieline.system import System


def test_an_exact_flow_is_refused_on_a_ledger_in_memory(tmp_path: Path) -> None:
    """It names the flow, the ledger and both ways out; nothing has been read or written."""
    shop = company.make_shop(tmp_path / "shop.db", 10)
    office = company.make_office(tmp_path / "office.db")
    landscape = company.landscape(
        "memory://",
        company.shop_system(shop),
        company.office_system(f"sqlite:///{office}"),
        robustness=Robustness.EXACT,
    )

    async def check() -> None:
        async with company.working(landscape) as work:
            await work.task

    with pytest.raises(ConfigurationError) as refused:
        asyncio.run(check())
    [mistake] = refused.value.mistakes
    assert mistake.where == "flow orders"
    assert "is exact" in mistake.what
    assert "before its data is on disk" in mistake.what
    assert "sqlite:///" in mistake.remedy
    assert 'robustness = "standard"' in mistake.remedy
    assert company.history_of(office).total() == 0


def test_a_worker_with_an_older_mapping_stands_down(tmp_path: Path) -> None:
    """It says which version it needs and reads nothing; with the newer adapter, everything arrives once."""
    shop = company.make_shop(tmp_path / "shop.db", 10)
    office = company.make_office(tmp_path / "office.db")
    store = f"sqlite:///{tmp_path / 'ledger.db'}"
    target = company.office_system(f"sqlite:///{office}")

    async def check() -> None:
        async with company.working(company.landscape(store, company.shop_system(shop, version=2), target)) as newer:
            await newer.until_level(10)
        company.put_orders(shop, range(10, 20))
        async with company.working(company.landscape(store, company.shop_system(shop), target)) as older:
            await older.until("it stands down", lambda: "deploy the newer adapter" in older.said)
            assert "mapping version 2 and this worker has 1" in (await older.legs())[0].failure
            await asyncio.sleep(1.5)
            assert (await older.legs())[0].entered == 10
        async with company.working(company.landscape(store, company.shop_system(shop, version=2), target)) as newer:
            await newer.until_level(20)
            assert (await newer.legs())[0].failure == ""
        assert company.history_of(office) == company.each_once(range(20))

    asyncio.run(check())


def rest_shop(server: Server, every: float) -> System:
    """The test server's rows, paged by offset, as orders."""
    adapter = Adapter(Rest(orders=Resource("/offset", items="results", paging=Offset(size=20))))
    adapter.source(company.Order, "orders", name="order")(
        lambda record: company.Order(number=record["number"], total=company.Money(record["total"], "EUR"))
    )
    return company.system("shop", adapter, server.url, every=every, sweep=1.0)


def test_two_workers_on_one_sqlite_ledger_share_the_work_and_poll_once(tmp_path: Path) -> None:
    """Each holds half of the partitions, one reads; the source is asked as often as if there were one."""
    office = company.make_office(tmp_path / "office.db")

    async def check(server: Server) -> None:
        landscape = company.landscape(
            f"sqlite:///{tmp_path / 'ledger.db'}",
            rest_shop(server, 1.0),
            company.office_system(f"sqlite:///{office}"),
        )
        [flow] = landscape.flows.values()
        landscape.flows["orders"] = msgspec.structs.replace(flow, via="bus")  # type: ignore[index]
        async with company.working(landscape) as one, company.working(landscape) as two:
            await one.until_level(50)

            async def shared() -> bool:
                holders = await one.look(lambda stores: stores.leases.holders())
                held = Counter(owner for name, owner in holders.items() if name.startswith("leg:"))
                return held == {one.runner.worker: 1, two.runner.worker: 1}

            await one.until("each has half", shared)
            began = server.count("GET", "/api/offset")
            runs = server.queries[-1]
            assert runs["limit"] == "20"
            firsts = sum(1 for query in server.queries if query.get("offset") == "0")
            await asyncio.sleep(3.0)
            again = sum(1 for query in server.queries if query.get("offset") == "0") - firsts
            assert 2 <= again <= 4
            assert server.count("GET", "/api/offset") > began
            for number in range(51, 71):
                server.put({"id": number, "number": f"N{number}", "total": number})
            await two.until_level(70)

    with serving(Server()) as server:
        server.fill(50)
        asyncio.run(check(server))
    assert company.history_of(office) == Counter({(f"N{n}", f"{n}.00"): 1 for n in range(1, 71)})
