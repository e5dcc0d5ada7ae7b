"""The disk under an engine or a ledger is full while orders change: what is refused waits, and goes on with room."""

import time
from pathlib import Path

import psycopg
import pytest
from tests.faults import record
from tests.faults.company import Company
from tests.faults.engines import nats_server
from tests.faults.work import Crew, wait_for
from tests.small_disk import fill, mounted

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

PATIENCE = 90.0  # seconds


def goes_on(company: Company, disk: Path, said: str, what: str, again=lambda: None) -> None:
    """Orders change until the worker says that it is refused; with room on the disk, all arrives."""
    row = record.fallen.setdefault(what, record.Row())
    company.found()
    with Crew(company) as crew:
        with company.busy(pace=0.05):
            worker = crew.begin()
            wait_for("orders arrive", lambda: company.changes() > 30, PATIENCE)
            ballast = fill(disk)
            company.edit(*(f"many-{number}" for number in range(3_000)))
            wait_for("it is refused", lambda: any(word in crew.said(worker) for word in said.split("|")), PATIENCE)
            time.sleep(1.0)
            assert worker.poll() is None, crew.log()
            ballast.unlink()
            again()
        crew.until_quiet(worker, PATIENCE)
        crew.end(worker)
        assert not crew.problems(), "\n".join([*crew.problems(), crew.log()])
    row.met["disk full"] += 1
    row.verdict = "right: refused, waited for, gone on; nothing lost, nothing twice, nothing out of order"


def test_a_full_disk_under_nats_is_waited_out(tmp_path):
    """The relay waits and batches stay in the ledger. JetStream stops for good: its server is begun again."""
    with mounted(24) as disk:
        kept = f'jetstream {{ store_dir: "{disk / "nats"}", sync_interval: always, max_file_store: 1GB }}'
        with nats_server(tmp_path, kept) as server:

            def again() -> None:
                server.kill()
                server.start()

            company = Company(tmp_path, ("books",), "bus", engine=f"{server.url}?sync=always", payments=True)
            goes_on(company, disk, "relay waits|leg waits", "nats, disk full", again)


@pytest.mark.services
def test_a_full_disk_under_a_ledger_in_postgresql_is_waited_out(tmp_path, engines):
    """Its commits are refused whole; source and legs wait, and nothing was half done."""
    with mounted(24) as disk, engines.running("postgresql") as engine:
        node = engine.postgresql
        node.own(disk)
        space = f"small_{time.time_ns()}"
        with psycopg.connect(node.url, autocommit=True) as server:
            server.execute(f"create tablespace {space} location '{disk}'".encode())
        store = node.database(options=f"tablespace {space}")
        company = Company(tmp_path, ("books",), "bus", store, payments=True)
        goes_on(company, disk, "No space left", "postgresql, disk full")
        node.drop(store, space)
