"""A rolling upgrade with real processes: workers of two project folders share a ledger, a bus and a target.

Orders and payments keep coming; workers with the old entities are replaced by workers with the new ones, some of
which are killed. Nothing is lost, nothing is written twice, the order holds and the books balance; afterwards an old
worker that is left alone with newer messages holds, and says why.
"""

import os
import shutil
from pathlib import Path

import psycopg
import pytest
from tests.faults.company import Company
from tests.faults.work import Crew, wait_for

from tieline.ledger import Stores
from tieline.runner.gaps import Gap

pytestmark = [pytest.mark.faults, pytest.mark.services, pytest.mark.timeout(600)]

LONG = os.environ.get("TIELINE_FAULTS") == "long"
WAYS = ["bus", "direct"] if LONG else ["bus"]
KILLS = (Gap.TAKEN, Gap.WRITTEN, Gap.COMMITTED, Gap.MOVED) * 4 if LONG else (Gap.WRITTEN, Gap.COMMITTED)
REASON = "deploy the newer entities here"

UPCASTERS = """

@Order.upcaster(1)
def edition(data):
    return {"number": data["number"], "edition": {"count": data["version"]}}


@Payment.upcaster(1)
def ordinal(data):
    data["ordinal"] = data.pop("n")
    return data
"""
CHANGES = {
    "entities.py": [
        ("import Entity, Event\n", "import Entity, Event, Value\n\n\nclass Edition(Value):\n    count: int\n"),
        ("    version: int\n", "    edition: Edition\n"),
        ("    n: int\n", "    ordinal: int\n"),
        ('key="number")', 'key="number", version=2)'),
        ('subject="account")', 'subject="account", version=2)'),
    ],
    "adapters/shop.py": [
        ("import Order,", "import Edition, Order,"),
        ('version=record["version"]', 'edition=Edition(count=record["version"])'),
        ('n=record["n"]', 'ordinal=record["n"]'),
    ],
    "adapters/books.py": [("order.version", "order.edition.count"), ("payment.n}", "payment.ordinal}")],
}


def newer(company: Company, folder: Path) -> Company:
    """The same company by a project folder of its own, with version 2 of its entities and adapters."""
    shutil.copytree(company.folder, folder, ignore=shutil.ignore_patterns("*.db*", "*.log", "__pycache__"))
    (folder / "shop.db").symlink_to(company.folder / "shop.db")
    for path, changes in CHANGES.items():
        text = (folder / path).read_text()
        for old, new in changes:
            text = text.replace(old, new)
        (folder / path).write_text(text + (UPCASTERS if path == "entities.py" else ""))
    return Company(
        folder, company.targets, company.via, store=company.store, books=company.books, payments=company.payments
    )


def written(company: Company) -> int:
    """How often an order was written into the books."""
    with psycopg.connect(company.books) as server:
        row = server.execute("select count(*) from history").fetchone()
    return 0 if row is None else int(row[0])


def published(stores: Stores, version: str) -> bool:
    """Whether somebody has published this version of both entities."""
    return all(version in (stores.notes.get(f"schema/{name}") or {}) for name in ("Order", "Payment"))


def owners(crew: Crew) -> set[str]:
    """Who has partitions of the orders' leg."""
    holders = crew.look(lambda s: s.leases.holders())
    return {owner for name, owner in holders.items() if name.startswith("leg:orders>books")}


@pytest.fixture
def old(tmp_path: Path, postgresql_database: str, via: str) -> Company:
    """A company whose ledger, bus and books are in PostgreSQL."""
    folder = tmp_path / "old"
    folder.mkdir()
    store, books = postgresql_database, postgresql_database
    company = Company(folder, ("books",), via, store=store, books=books, payments=True)
    company.found()
    return company


@pytest.mark.parametrize("via", WAYS)
def test_a_rolling_upgrade_under_load(old: Company, tmp_path: Path, via: str) -> None:
    """Old and new side by side, new ones killed with -9; then back to the old alone, which holds; and on again."""
    new = newer(old, tmp_path / "new")
    with Crew(old) as before, Crew(new) as after:
        with old.busy():
            veteran = before.begin()
            wait_for("the old project at work", lambda: written(old) > 30)
            if via == "bus":  # then the new ones have partitions, too, and only the old ones publish
                for gap in KILLS:
                    after.killed_at(gap, 3)
            assert not before.look(lambda s: published(s, "2"))
            after.begin()
            wait_for("both have partitions", lambda: len(owners(before)) == 2 or via == "direct")
            before.end(veteran)
            wait_for("the new version is published", lambda: before.look(lambda s: published(s, "2")))
            survivor = before.begin()  # of a machine that is still to be upgraded
            wait_for("the old worker stands down", lambda: "leg stands down" in before.said(survivor))
            then = written(old)
            wait_for("the new project goes on", lambda: written(old) > then + 20)
            for worker in after.begun:
                worker.kill()
                worker.wait()
            last = after.begin()
            then = written(old)
            wait_for("it goes on after all that", lambda: written(old) > then + 20)
        after.until_quiet(last)
        assert survivor.poll() is None, before.log()
        assert not after.problems(), after.problems()
        before.end(survivor)
        after.end(last)

        old.edit("hot-1")
        after.killed_at(Gap.PUBLISHED, 1)
        then = written(old)
        returned = before.begin()

        def held(stores: Stores) -> bool:
            leg, source = stores.legs.get("orders>books"), stores.sources.get("shop.order")
            return leg is not None and REASON in leg.paused and REASON in source.failure

        wait_for("the old project alone holds", lambda: before.look(held))
        assert written(old) == then
        now = before.status()
        assert all(not leg["parked"] and not leg["off_by"] for leg in now["legs"])
        assert any(REASON in leg["paused"] for leg in now["legs"])
        before.end(returned)
        last = after.begin()
        after.until_quiet(last)
        after.end(last)
        assert not after.problems(), after.problems()
