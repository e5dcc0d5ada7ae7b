"""What a size needs, and what gives out first: arithmetic over costs that were measured.

A message is a record on its way to one target: a record for three targets is three messages here, each with the
whole cost of reading and delivering. That is too much by what reading costs, never too little.
"""

import heapq
import random
from collections import deque
from dataclasses import dataclass
from typing import Any

DAY = 86_400.0
MONTH_HOURS = 730.0


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured on one machine, for one way."""

    worker_us: float  # processor time of the worker for a message
    database_us: float  # of the database with the ledger; the target's work is in it where that is on the same server
    commits: float  # transactions for a message
    wal_bytes: float  # for a message
    sync_ms: float  # until a commit is on disk
    seen_bytes: float
    held_bytes: float
    worker_mb: float
    flow_worker_us: float  # processor time a second of a flow in which nothing happens
    flow_commits: float  # its transactions a second
    flow_kb: float


@dataclass(frozen=True, slots=True)
class Size:
    """A company. `peak` is the busiest hour over the average one, `busy` how much of a core one plans to use."""

    name: str
    flows: int
    per_day: float
    targets: float = 1.0
    peak: float = 4.0
    busy: float = 0.7
    keys: float = 0.0  # that sources show; 0: as many as thirty days' records, of which a fifth are new
    share_held: float = 0.0  # of messages to targets that keep no held table of their own
    batch: float = 2_000.0  # the most that travel together

    @property
    def per_s(self) -> float:
        """Messages a second in the busiest hour."""
        return self.per_day * self.targets * self.peak / DAY

    @property
    def all_keys(self) -> float:
        """Keys that are remembered."""
        return self.keys or self.per_day * 30 * 0.2


@dataclass(frozen=True, slots=True)
class Need:
    """What a size takes in its busiest hour, and in all."""

    worker_cores: float
    database_cores: float
    commits_per_s: float
    workers: int
    memory_mb: float
    ledger_gb: float
    wal_gb_per_day: float
    vcpu_hours_per_month: float
    bottleneck: str


SETTINGS = {
    "one worker's core": "more workers, and `partitions` of the busiest flows",
    "the database's processor": "a larger server for the ledger; a bus on an engine takes the channels off it",
    "commits that wait for the disk": "a faster disk for the WAL; more per batch: a slower trigger, fewer flows",
    "flows in which nothing happens": "several projects, or workers that run some flows only",
}


def limits(costs: Costs, size: Size, workers: int, database_cores: float) -> dict[str, float]:
    """The most messages a second that each part allows; the least of them is what is reached."""
    idle = min(0.99, size.flows * costs.flow_worker_us / 1e6 / workers)
    # A worker has one connection to the ledger: its commits come one after the other.
    return {
        "one worker's core": workers * (1 - idle) * 1e6 / costs.worker_us,
        "the database's processor": database_cores * 1e6 / costs.database_us,
        "commits that wait for the disk": workers * 1e3 / (costs.commits * costs.sync_ms),
    }


def need(costs: Costs, size: Size) -> Need:
    """What the size takes; the bottleneck is what gives out first with one worker and one core for the database."""
    idle = size.flows * costs.flow_worker_us / 1e6
    worker = size.per_s * costs.worker_us / 1e6 + idle
    database = size.per_s * costs.database_us / 1e6
    commits = size.per_s * costs.commits + size.flows * costs.flow_commits
    workers = max(2, -int(-worker / size.busy // 1), -int(-(commits * costs.sync_ms / 1e3) / size.busy // 1))
    rates = limits(costs, size, 1, 1.0)
    first = min(rates, key=rates.__getitem__)
    if idle > size.per_s * costs.worker_us / 1e6 and rates[first] < size.per_s:
        first = "flows in which nothing happens"
    bottleneck = (
        first if rates[first] * size.busy < size.per_s else "none: one worker is enough, a second one for failures"
    )
    kept = size.all_keys * (costs.seen_bytes + size.targets * size.share_held * costs.held_bytes)
    average = size.per_s / size.peak
    hours = (average * (costs.worker_us + costs.database_us) / 1e6 + idle) / size.busy * MONTH_HOURS
    return Need(
        worker_cores=worker,
        database_cores=database,
        commits_per_s=commits,
        workers=workers,
        memory_mb=workers * costs.worker_mb + size.flows * costs.flow_kb / 1024 * workers,
        ledger_gb=kept / 1e9,
        wal_gb_per_day=average * costs.wal_bytes * DAY / 1e9,
        vcpu_hours_per_month=hours,
        bottleneck=bottleneck,
    )


@dataclass(frozen=True, slots=True)
class Run:
    """What a simulation came to."""

    messages_per_s: float
    p50_ms: float
    p99_ms: float
    worker_busy: float
    database_busy: float


def simulate(
    costs: Costs,
    *,
    per_s: float,
    batch: int,
    workers: int,
    database_cores: int,
    batches: int = 4_000,
    seed: int = 1,
) -> Run:
    """Batches arrive at random, are worked on by a worker and the database, and wait for the disk.

    Each worker has one batch at a time and commits by itself; the disk takes together what waits for it.
    """
    dice = random.Random(seed)
    on_worker, in_database = batch * costs.worker_us / 1e6, batch * costs.database_us / 1e6
    syncs = max(1, round(batch * costs.commits))
    arrivals, at = [], 0.0
    for _ in range(batches):
        at += dice.expovariate(per_s / batch)
        arrivals.append(at)
    waiting: deque[float] = deque()
    free, cores = workers, database_cores
    queue: deque[tuple[float, float]] = deque()
    events: list[tuple[float, int, str, float]] = [(at, n, "arrives", at) for n, at in enumerate(arrivals)]
    heapq.heapify(events)
    number, took, busy_worker, busy_database, now = batches, [], 0.0, 0.0, 0.0

    def later(seconds: float, what: str, since: float) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (now + seconds, number, what, since))

    while events:
        now, _, what, since = heapq.heappop(events)
        if what == "arrives":
            waiting.append(since)
        elif what == "worked":
            queue.append((since, now))
        elif what == "stored":
            cores += 1
            later(syncs * costs.sync_ms / 1e3, "safe", since)
        else:
            free += 1
            took.append(now - since)
        while free and waiting:
            free -= 1
            busy_worker += on_worker
            later(on_worker, "worked", waiting.popleft())
        while cores and queue:
            cores -= 1
            busy_database += in_database
            later(in_database, "stored", queue.popleft()[0])
    took.sort()
    return Run(
        messages_per_s=batches * batch / now,
        p50_ms=1e3 * took[len(took) // 2],
        p99_ms=1e3 * took[int(len(took) * 0.99)],
        worker_busy=busy_worker / now / workers,
        database_busy=busy_database / now / database_cores,
    )


def cycle_s(costs: Costs, batch: int) -> float:
    """Seconds that one batch takes a worker from beginning to end, while nobody else is there."""
    return (
        batch * (costs.worker_us + costs.database_us) / 1e6
        + max(1, round(batch * costs.commits)) * costs.sync_ms / 1e3
    )


def costs_of(measured: dict[str, Any], via: str = "postgresql") -> Costs:
    """The costs out of `latest.json`: of one worker, over this engine."""
    (run,) = [one for one in measured["workers"] if one["engine"] == via and one["workers"] == 1]
    sizes, idle = measured["ledger"]["bytes"], _idle(measured)
    return Costs(
        worker_us=run["worker_us"],
        database_us=run["database_us"],
        commits=run["transactions_per_1000"] / 1e3,
        wal_bytes=run["wal_bytes"],
        sync_ms=measured["ledger"]["sync_ms"],
        seen_bytes=sizes["seen"]["postgresql"],
        held_bytes=sizes["held"]["postgresql"],
        worker_mb=run["memory_mb"],
        **idle,
    )


def _idle(measured: dict[str, Any]) -> dict[str, float]:
    """Per flow, from the largest worker that started."""
    found = [one for one in measured["idle"] or measured["idle_before"] if one["started"]]
    most = max(found, key=lambda one: int(one["flows"]))
    flows = most["flows"]
    return {
        "flow_worker_us": most["idle_cpu_percent"] / 100 * 1e6 / flows,
        "flow_commits": most["transactions_per_s"] / flows,
        "flow_kb": max(0.0, most["memory_mb"] - measured["empty_mb"]) * 1024 / flows,
    }
