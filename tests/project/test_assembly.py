"""Addresses become ledgers and buses in one place."""

import asyncio
import sys
from pathlib import Path

import pytest

from tieline.assembly import close_all, ledger_to_read, open_bus, open_buses, open_connectors, open_ledger
from tieline.buses.memory import MemoryBus
from tieline.buses.sql import SqlBus
from tieline.errors import ConfigurationError, MissingExtra
from tieline.ledger import SourceState
from tieline.ledgers.memory import MemoryLedger
from tieline.ledgers.postgresql import PostgresqlLedger
from tieline.ledgers.sqlite import SqliteLedger
from tieline.system import Landscape


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("sqlite:///a.db", SqliteLedger),
        ("postgresql://127.0.0.1/tieline", PostgresqlLedger),
        ("memory://", MemoryLedger),
    ],
)
def test_each_store_has_its_keeper(tmp_path, url, kind):
    """The scheme decides; nothing is connected yet."""
    assert type(open_ledger(url, tmp_path)) is kind
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["", "a.db", "mysql://x", "sqlite://a.db", "nats://x"])
def test_an_unknown_store_says_what_is_known(url):
    """A clear error with the known schemes, not a failure later."""
    with pytest.raises(ConfigurationError, match=r"use one of: sqlite://|write sqlite:///"):
        open_ledger(url)


def test_a_relative_store_is_in_the_project(tmp_path):
    """`sqlite:///.tieline/tieline.db` is a file below the project's folder."""

    async def keep() -> SourceState:
        ledger = open_ledger("sqlite:///.tieline/tieline.db", tmp_path)
        await ledger.transact(lambda stores: stores.sources.put("shop.order", SourceState(counter=7)))
        await ledger.close()
        ledger = ledger_to_read("sqlite:///.tieline/tieline.db", tmp_path)
        found = await ledger.transact(lambda stores: stores.sources.get("shop.order"))
        await ledger.close()
        return found

    assert asyncio.run(keep()).counter == 7
    assert (tmp_path / ".tieline" / "tieline.db").is_file()


def test_looking_makes_no_store(tmp_path):
    """A ledger that is only looked at is empty where its file is not there yet, and stays so."""
    assert isinstance(ledger_to_read("sqlite:///a.db", tmp_path), MemoryLedger)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["", "sqlite:///a.db", "sqlite:///x/../a.db"])
def test_a_bus_without_an_address_of_its_own_is_the_store(tmp_path, url):
    """Then publishing is part of the ledger's own transaction."""
    ledger = open_ledger("sqlite:///a.db", tmp_path)
    bus = open_bus(url, ledger, tmp_path)
    assert isinstance(bus, SqlBus)
    assert bus.capabilities.shares_ledger


def test_a_bus_elsewhere_does_not_share_the_ledger(tmp_path):
    """Another file, another server, or memory: batches go there by the relay."""
    ledger = open_ledger("sqlite:///a.db", tmp_path)
    for url in ("sqlite:///b.db", "postgresql://127.0.0.1/bus"):
        bus = open_bus(url, ledger, tmp_path)
        assert isinstance(bus, SqlBus)
        assert not bus.capabilities.shares_ledger
    assert isinstance(open_bus("memory://", ledger), MemoryBus)


def test_an_engine_whose_client_is_not_installed_says_how_to_install_it(monkeypatch):
    """The extra stands in the message."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "nats" or "buses.nats" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tieline\[nats\]'"):
        open_bus("nats://h", MemoryLedger())


def test_the_buses_of_a_landscape():
    """Every name that flows may use is there: "direct", "main", and those of the project; mistakes come together."""
    ledger = MemoryLedger()
    buses = open_buses(Landscape(name="acme", buses={"audit": "memory://audit"}), ledger)
    assert set(buses) == {"direct", "main", "audit"}
    assert buses["direct"] is buses["main"]
    with pytest.raises(ConfigurationError) as raised:
        open_buses(Landscape(name="acme", buses={"main": "mqtt://h", "audit": "x"}), ledger)
    assert [mistake.where for mistake in raised.value.mistakes] == ["buses.main", "buses.audit"]


def test_closing_closes_each_once(tmp_path: Path):
    """Also a bus that has two names, and the ledger behind a bus of its own."""

    async def use() -> None:
        ledger = open_ledger("sqlite:///a.db", tmp_path)
        landscape = Landscape(name="acme", folder=tmp_path, buses={"audit": "sqlite:///b.db"})
        buses = open_buses(landscape, ledger)
        await buses["audit"].declare("c", 1, ["s"])
        await close_all(buses, ledger)

    asyncio.run(use())
    assert (tmp_path / "b.db").is_file()


def test_connectors_that_cannot_be_opened_are_mistakes(acme):
    """The others are opened all the same."""
    acme.change('url     = "memory://erp"\n', "")
    opened, mistakes = open_connectors(acme.read().landscape)
    assert set(opened) == {"shop"}
    assert [mistake.where for mistake in mistakes] == ["systems.erp"]
