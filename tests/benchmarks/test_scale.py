"""The model of sizes: its arithmetic, its simulation, and that the page shows what they come to."""

import json
from dataclasses import replace

import pytest
from benchmarks.scale import company
from benchmarks.scale.__main__ import BEGIN, END, OUTPUT, PAGE
from benchmarks.scale.figures import SIZES, as_markdown
from benchmarks.scale.model import Costs, Size, cycle_s, limits, need, simulate

from tieline.project import read

COSTS = Costs(
    worker_us=100.0,
    database_us=50.0,
    commits=0.01,
    wal_bytes=1_000.0,
    sync_ms=1.0,
    seen_bytes=250.0,
    held_bytes=200.0,
    worker_mb=100.0,
    flow_worker_us=10.0,
    flow_commits=0.001,
    flow_kb=10.0,
)


def test_the_page_shows_what_the_model_says():
    """`make scale ARGS="model --docs"` would change nothing: no number was copied by hand."""
    shown = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == as_markdown(json.loads(OUTPUT.read_text())).strip()


def test_every_size_is_on_the_page():
    """From a small company to a billion records a day over ten thousand flows."""
    assert SIZES[-1].flows == 10_000
    assert SIZES[-1].per_day == 1e9
    page = PAGE.read_text()
    assert all(f"{size.flows:,} flows, {size.per_day:,.0f} records a day" in page for size in SIZES)


def test_the_least_limit_is_what_is_reached():
    """Each part allows so much; twice the workers are twice what workers allow, and no more of the database."""
    one = limits(COSTS, Size("", flows=0, per_day=1), 1, 1.0)
    assert list(one.values()) == pytest.approx([10_000, 20_000, 100_000])
    two = limits(COSTS, Size("", flows=0, per_day=1), 2, 1.0)
    assert list(two.values()) == pytest.approx([20_000, 20_000, 200_000])
    slow = limits(replace(COSTS, sync_ms=50.0), Size("", flows=0, per_day=1), 1, 1.0)
    assert min(slow, key=slow.__getitem__) == "commits that wait for the disk"


def test_a_size_needs_what_its_parts_need():
    """Ten times the records are ten times the cores; flows in which nothing happens cost on top."""
    small = need(COSTS, Size("", flows=0, per_day=864_000, peak=10))
    assert small.worker_cores == pytest.approx(100 * 100e-6)
    assert (small.workers, small.bottleneck[:4]) == (2, "none")
    large = need(COSTS, Size("", flows=0, per_day=8.64e8, peak=10))
    assert large.worker_cores == pytest.approx(1_000 * small.worker_cores)
    assert large.workers == 15
    assert large.bottleneck == "one worker's core"
    assert large.wal_gb_per_day == pytest.approx(864)
    many = need(COSTS, Size("", flows=100_000, per_day=864_000))
    assert many.worker_cores == pytest.approx(1.0 + 40 * 100e-6)


def test_without_load_a_batch_takes_what_its_parts_take():
    """The simulation agrees with the sum."""
    run = simulate(COSTS, per_s=10, batch=100, workers=1, database_cores=1, batches=500)
    assert run.p50_ms == pytest.approx(1e3 * cycle_s(COSTS, 100), rel=0.01)
    assert run.messages_per_s == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize(("workers", "cores"), [(1, 4), (4, 1), (8, 8)])
def test_more_than_it_can_do_is_done_at_the_limit(workers, cores):
    """The simulation, offered far too much, comes to the least of what the arithmetic allows, or a little less:
    a worker waits for the database and the disk before its next batch."""
    allowed = limits(COSTS, Size("", flows=0, per_day=1), workers, float(cores))
    alone = workers * 1_000 / cycle_s(COSTS, 1_000)
    run = simulate(COSTS, per_s=1e6, batch=1_000, workers=workers, database_cores=cores)
    assert run.messages_per_s <= min(allowed.values()) * 1.01
    assert run.messages_per_s == pytest.approx(min(alone, *allowed.values()), rel=0.05)


def test_half_the_limit_keeps_workers_half_busy():
    """Utilisation is load times cost, whatever the order of arrival."""
    run = simulate(COSTS, per_s=5_000, batch=100, workers=1, database_cores=1)
    assert run.worker_busy == pytest.approx(0.5, rel=0.06)
    assert run.database_busy == pytest.approx(0.25, rel=0.06)
    busier = simulate(COSTS, per_s=5_900, batch=100, workers=1, database_cores=1)
    assert busier.p99_ms > run.p99_ms


def test_the_generated_project_is_a_good_one(tmp_path):
    """As many flows as asked for, each with a source of its own."""
    company.found(tmp_path / "many", 30, "memory://", "bus", "every 1h", partitions=2)
    landscape = read(tmp_path / "many").landscape
    assert len(landscape.flows) == len(landscape.systems["shop"].sources) == 30
    assert {flow.partitions for flow in landscape.flows.values()} == {2}
