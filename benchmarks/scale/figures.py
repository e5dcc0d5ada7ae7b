"""The page's tables, from what was measured and from the model over it; a test compares the page with this."""

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.scale.model import SETTINGS, Size, costs_of, cycle_s, limits, need, simulate

SIZES = (
    Size("a small company", flows=20, per_day=1e5),
    Size("a large one", flows=200, per_day=1e7, targets=2),
    Size("a group", flows=2_000, per_day=1e8, targets=2),
    Size("the largest asked for", flows=10_000, per_day=1e9),
)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def measured_idle(measured: dict[str, Any]) -> str:
    """Workers in which nothing happens."""
    head = [
        "flows",
        "started",
        "CPU s to start",
        "memory MB",
        "worker CPU %",
        "ledger CPU %",
        "transactions/s",
        "rows/s",
    ]
    rows = []
    for when in ("idle_before", "idle"):
        for one in measured[when]:
            began = f"{one['start_s']:,.0f} s" if one["started"] else f"not in {one['start_s']:,.0f} s"
            named = f"{one['flows']:,}{', before' if when == 'idle_before' else ''}"
            cells = (
                one["idle_cpu_percent"],
                one["ledger_cpu_percent"],
                one["transactions_per_s"],
                one["rows_written_per_s"],
            )
            rows.append(
                [
                    named,
                    began,
                    f"{one['start_cpu_s']:,.0f}",
                    f"{one['memory_mb']:,.0f}",
                    *(f"{c:,.1f}" for c in cells),
                ]
            )
    return _table(head, rows)


def measured_workers(measured: dict[str, Any]) -> str:
    """Real workers beside the model."""
    head = [
        "way",
        "workers",
        "messages/s",
        "cores they got",
        "worker µs",
        "database µs",
        "commits per 1,000",
        "WAL bytes",
        "memory MB",
    ]
    head.append("model: messages/s with as many cores")
    rows = []
    for one in measured["workers"]:
        each = one["worker_us"] + one["database_us"]
        got = one["records_per_s"] * each / 1e6
        model = costs_of(measured, one["engine"])
        expected = got / (model.worker_us + model.database_us) * 1e6
        rows.append(
            [
                one["engine"] or "direct",
                str(one["workers"]),
                f"{one['records_per_s']:,}",
                f"{got:.2f}",
                *(f"{one[name]:,.0f}" for name in ("worker_us", "database_us")),
                f"{one['transactions_per_1000']:,.0f}",
                *(f"{one[name]:,.0f}" for name in ("wal_bytes", "memory_mb")),
                f"{expected:,.0f}",
            ]
        )
    return _table(head, rows)


def measured_ledger(measured: dict[str, Any]) -> str:
    """Bytes per record."""
    what = {
        "seen": ("what a source has shown", "nothing, while the key lives; of a deleted key a tombstone stays"),
        "held": ("what a target without a table of its own has", "nothing"),
        "channel": ("a message in a channel of the store", "deleted when every leg has passed it"),
        "parked": ("a message that waits", "deleted when it is delivered or dropped"),
    }
    rows = [
        [f"{name}: {what[name][0]}", f"{found['sqlite']:,.0f}", f"{found['postgresql']:,.0f}", what[name][1]]
        for name, found in measured["ledger"]["bytes"].items()
    ]
    return _table(["table", "SQLite", "PostgreSQL", "what prunes it"], rows)


def sizes(measured: dict[str, Any]) -> str:
    """What four companies need, over a bus in the ledger's PostgreSQL."""
    costs = costs_of(measured)
    rows = []
    for size in SIZES:
        found = need(costs, size)
        rows.append(
            [
                f"{size.name}: {size.flows:,} flows, {size.per_day:,.0f} records a day, targets: {size.targets:.0f}",
                f"{size.per_s:,.0f}",
                f"{found.worker_cores:,.2f}",
                str(found.workers),
                f"{found.database_cores:,.2f}",
                f"{found.commits_per_s:,.0f}",
                f"{found.ledger_gb:,.1f}",
                f"{found.wal_gb_per_day:,.1f}",
                f"{found.memory_mb / 1024:,.1f}",
                f"{found.vcpu_hours_per_month:,.0f}",
                found.bottleneck,
            ]
        )
    head = ["size", "messages/s at the peak", "worker cores", "workers", "database cores", "commits/s", "seen, GB"]
    return _table([*head, "WAL GB a day", "memory GB", "vCPU hours a month", "gives out first"], rows)


def ceilings(measured: dict[str, Any]) -> str:
    """The most a second, by what allows it."""
    rows = []
    for engine in ("", "postgresql", "nats"):
        costs = costs_of(measured, engine)
        for workers in (1, 2, 4, 16):
            rates = limits(costs, Size("", flows=100, per_day=1e6), workers, 4.0)
            first = min(rates, key=rates.__getitem__)
            row = [engine or "direct", f"{workers}", *(f"{rate:,.0f}" for rate in rates.values()), first]
            rows.append(row)
    return _table(["way", "workers", "workers' cores", "database of 4 cores", "commits", "gives out first"], rows)


def latencies(measured: dict[str, Any]) -> str:
    """Simulated, beside the time of a batch alone."""
    costs = costs_of(measured)
    rows = []
    for per_s, batch, workers in (
        (100, 1, 1),
        (1_000, 20, 1),
        (5_000, 200, 2),
        (10_000, 2_000, 4),
        (20_000, 2_000, 8),
    ):
        run = simulate(costs, per_s=per_s, batch=batch, workers=workers, database_cores=4)
        alone = 1e3 * cycle_s(costs, batch)
        rows.append(
            [
                f"{per_s:,}",
                f"{batch:,}",
                f"{workers}",
                f"{run.messages_per_s:,.0f}",
                f"{run.p50_ms:,.1f}",
                f"{run.p99_ms:,.1f}",
                f"{alone:,.1f}",
                f"{run.worker_busy:.2f}",
                f"{run.database_busy:.2f}",
            ]
        )
    head = ["messages/s offered", "in a batch", "workers", "messages/s done", "p50 ms", "p99 ms", "a batch alone, ms"]
    return _table([*head, "workers busy", "database busy"], rows)


def settings() -> str:
    """What to do about each bottleneck."""
    return "\n".join(f"- {what}: {how}." for what, how in SETTINGS.items())


def as_markdown(measured: dict[str, Any]) -> str:
    """Everything that stands between the page's marks."""
    return "\n\n".join(
        [
            "### A worker in which nothing happens",
            measured["about_idle"],
            measured_idle(measured),
            "### Workers",
            measured["about_workers"],
            measured_workers(measured),
            "### Bytes in the ledger for a record",
            f"{measured['ledger']['records']:,} records in each table, all indexes included; a million is so many "
            f"times as much. A commit takes {measured['ledger']['sync_ms']} ms until it is on this disk.",
            measured_ledger(measured),
            "### What sizes need, by the model",
            sizes(measured),
            "### The most messages a second, by the model",
            ceilings(measured),
            "What moves each:",
            settings(),
            "### Latency, by simulation",
            latencies(measured),
        ]
    )
