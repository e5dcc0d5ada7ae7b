"""Three workers are processes of their own, and the system that they call writes down what it sees."""

import time
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.connectors.rest_server import Server, serving
from tests.workers.site import Site, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

PER_SECOND = 40
AT_ONCE = 6
TOLERANCE = 0.2  # of the limit per second: what is late, by the ledger's answers or a busy machine
SPAN = 4.0  # seconds over which is measured

PROJECT = """
    [tieline]
    name  = "acme"
    store = "sqlite:///ledger.db"

    [systems.shop]
    adapter = "adapters.shop"
    url     = "sqlite:///shop.db"

    [systems.desk]
    adapter  = "adapters.desk"
    url      = "{url}"
    timeout  = "{timeout}"
    settling = "2s"
    limits   = {{ per_second = {per_second}, at_once = {at_once} }}
    options  = {{ headers = {{ X-Worker = "${{env:WORKER}}" }} }}

    [flows.orders]
    entity     = "Order"
    from       = "shop"
    to         = "desk"
    via        = "bus"
    partitions = 6
"""


@pytest.fixture
def desk() -> Iterator[Server]:
    with serving(Server(pause=0.05)) as server:
        yield server


def callers(desk: Server, since: int) -> set[str]:
    """Who has called since so many calls."""
    return {headers.get("x-worker", "") for headers in desk.headers[since:]}


def rate(desk: Server) -> float:
    """Calls a second, from now on for a while."""
    before, began = len(desk.moments), time.monotonic()
    time.sleep(SPAN)
    return (len(desk.moments) - before) / (time.monotonic() - began)


def busiest_second(desk: Server) -> int:
    moments = list(desk.moments)
    return max(bisect_left(moments, start + 1.0) - n for n, start in enumerate(moments))


def test_three_workers_call_a_system_as_one_may_and_share_what_a_killed_one_leaves(desk: Server, tmp_path: Path):
    """By the system's own record: never more calls a second or at once, and nearly as many as allowed."""
    project = PROJECT.format(url=desk.url, timeout="2s", per_second=PER_SECOND, at_once=AT_ONCE)
    with Site(tmp_path, project) as site:
        site.fill(3_000)
        for _ in range(3):
            site.begin(lease=2.0)
        wait_for("all three call the desk", lambda: callers(desk, 0) == {"0", "1", "2"})
        time.sleep(1)
        together = rate(desk)
        site.workers[2].kill()
        site.workers[2].wait()
        killed = len(desk.moments)
        wait_for("the others go on", lambda: len(desk.moments) > killed + 2 * PER_SECOND)
        two = rate(desk)
        for worker in site.workers[:2]:
            site.end(worker)
    print(f"{together:.1f} and {two:.1f} calls a second, at most {busiest_second(desk)}, {desk.most_at_once} at once")
    assert desk.most_at_once <= AT_ONCE
    assert busiest_second(desk) <= PER_SECOND * (1 + TOLERANCE) + 1
    assert together >= 0.8 * PER_SECOND
    assert two >= 0.8 * PER_SECOND
    assert callers(desk, killed + 2 * PER_SECOND) == {"0", "1"}
    numbers = [row["number"] for row in desk.rows.values()]
    assert len(set(numbers)) == len(numbers), "an order was made twice"
