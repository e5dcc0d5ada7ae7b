"""The network between two hosts is cut under load: a worker on one; ledger, engine and target on the other.

Nobody is told: connections stay half open. Whoever is cut off is taken over, notices within a bounded time, and goes
on by itself when the cable is mended; so do the servers notice, and let go of what was his.
"""

import os
import time

import psycopg
import pytest
from tests.faults import record
from tests.faults.company import Company
from tests.faults.network import two_hosts
from tests.faults.work import LEASE, Crew, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.services, pytest.mark.timeout(900)]

LONG = os.environ.get("TIELINE_FAULTS") == "long"
PATIENCE = 90.0  # seconds until everything has arrived

# With the settings as they come a half-open connection is noticed after about 30 s; here sooner.
QUICK = "?keepalives_idle=1&keepalives_interval=1&keepalives_count=2&tcp_user_timeout=3000&connect_timeout=3"
BOUND = 45.0 if LONG else 20.0

CUTS = [(name, how) for name in ("postgresql", "nats", "rabbitmq", "kafka") for how in ("cut", "deaf", "short")]
if not LONG:
    CUTS = [("postgresql", "deaf"), ("nats", "cut"), ("rabbitmq", "short"), ("kafka", "cut")]


def sessions(store: str, host: str) -> int:
    """How many sessions of a host the server knows."""
    with psycopg.connect(store, autocommit=True) as server:
        found = server.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE client_addr = %s::inet", [host]
        ).fetchone()
    return int(found[0]) if found else 0


@pytest.mark.parametrize(("name", "how"), CUTS)
def test_a_worker_that_is_cut_off_is_taken_over_and_goes_on_when_the_cable_is_mended(name, how, tmp_path, engines):
    """Its half-open connections are noticed at both ends in time; nothing is lost, nothing twice, order holds."""
    row = record.fallen.setdefault(f"{name}, {how}", record.Row())
    quick = "" if LONG else QUICK
    with two_hosts() as cable, engines.at(cable.here) as there, there.running(name, ledger=True) as engine:
        store = engine.store
        company = Company(
            tmp_path,
            ("books",),
            "bus",
            store + quick,
            engine.url,
            books=engine.postgresql.database() + quick,
            payments=True,
            timeout="30s" if LONG else "8s",
        )
        company.found()

        with Crew(company) as crew:
            with company.busy(pace=0.1):
                far = crew.begin(within=cable.within)
                near = crew.begin()
                wait_for("orders arrive", lambda: company.changes() > 30, PATIENCE)
                wait_for("both take part", lambda: crew.leases(far) and crew.leases(near), PATIENCE)
                (cable.deafen if how == "deaf" else cable.cut)()
                at = time.monotonic()
                if how == "short":
                    time.sleep(3 * LEASE)
                else:
                    wait_for("it is taken over", lambda: not crew.leases(far), PATIENCE)
                    wait_for("its server lets go of it", lambda: not sessions(store, cable.there), BOUND)
                    wait_for("it notices", lambda: "ledger postgresql://" in crew.said(far), BOUND)
                    print(f"{name} {how}: noticed after {time.monotonic() - at:.1f} s")
                    stood = company.changes()
                    wait_for("orders arrive", lambda: company.changes() > stood + 30, PATIENCE)
                cable.mend()
                wait_for("it takes part again", lambda: crew.leases(far), PATIENCE)
                crew.end(near)
                stood = company.changes()
                wait_for("it goes on alone", lambda: company.changes() > stood + 30, PATIENCE)
            crew.until_quiet(far, PATIENCE)
            crew.end(far)
            assert not crew.problems(), "\n".join([*crew.problems(), crew.log()])
    row.met[how] += 1
    row.verdict = "right: taken over, noticed, gone on; nothing lost, nothing twice, nothing out of order"
