"""What legs have before them, read for all of them at once."""

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest

from tieline.connector import LegState
from tieline.landscape.backlog import backlog
from tieline.landscape.metrics import as_metrics
from tieline.ledger import LegRow, SourceState, Way
from tieline.ledgers.memory import MemoryLedger
from tieline.message import HEAD, Batch, Message, Reason, Version, made_at, pack
from tieline.testing.ledger.samples import parked

LEG = "orders>office"
CHANNEL = "direct:shop.order/1"


def batch(sequence=1, at=1_700_000_000.5, source="shop.order"):
    """A packed batch of one message."""
    message = Message(id=b"1" * 16, key="a", version=Version(1, sequence), data=msgspec.Raw(b'{"messages":[]}'))
    when = datetime.fromtimestamp(at, UTC)
    return pack(Batch(source=source, entity="Order", schema=1, sequence=sequence, time=when, messages=[message] * 50))


def ledger_with(*steps):
    """A ledger in memory in which these were done."""

    async def make():
        ledger = MemoryLedger()
        for step in steps:
            await ledger.transact(step)
        return await ledger.transact(backlog)

    return asyncio.run(make())


def begin(stores, bus="direct", channel=CHANNEL):
    """A leg that has nothing yet."""
    way = Way(bus=bus, channel=channel, partitions=1)
    stores.legs.put(LegRow(leg=LEG, flow="orders", source="shop.order", target="office", entity="Order", ways=[way]))


def publish(stores):
    """Two batches of fifty came in for the leg."""
    stores.channels.declare(CHANNEL, 1, [LEG])
    stores.channels.append(CHANNEL, [(0, 1, 50, batch()), (0, 2, 50, batch(2, at=1_700_000_100))])
    stores.legs.count(LEG, entered=100)


@pytest.mark.parametrize("source", ["shop.order", 'a","messages":[.b', "x" * 500])
def test_when_a_batch_was_made_stands_in_its_first_bytes(source):
    """Whatever its source is called, and without its messages."""
    assert made_at(batch(source=source)[:HEAD]) == 1_700_000_000.5


def test_a_name_that_fills_the_first_bytes_tells_no_time():
    """Nobody is told a wrong one."""
    assert made_at(batch(source="x" * 3_000)[:HEAD]) is None


def test_what_came_in_is_in_flight_until_it_came_to_something():
    """In, less outcomes and parked: what the books have left; its age is that of the oldest batch ahead."""
    row = parked("a", leg=LEG, reason=Reason.DEAD)

    def deliver(stores):
        stores.legs.move(LEG, CHANNEL, {0: LegState(1, 1, counts={"done": 48, "stale": 1})})
        stores.parked.put([row])

    (leg,) = ledger_with(begin, publish).legs
    assert (leg.in_flight, leg.entered) == (100, 100)
    now = ledger_with(begin, publish, deliver)
    (leg,) = now.legs
    assert leg.in_flight == now.in_flight == 50
    assert leg.parked == {Reason.DEAD: 1}
    assert leg.lag == pytest.approx(now.at - 1_700_000_100)


def test_a_level_leg_has_no_lag():
    """Also while something that is not for it stands in its channel."""

    def deliver(stores):
        stores.legs.count(LEG, counts={"done": 100})

    (leg,) = ledger_with(begin, publish, deliver).legs
    assert (leg.in_flight, leg.lag) == (0, 0.0)


def test_the_lag_of_what_is_in_an_engine_elsewhere_is_not_known():
    """It is left out, not shown as nothing."""

    def enter(stores):
        begin(stores, "main", "main:shop.order/4")
        stores.legs.count(LEG, entered=3)

    now = ledger_with(enter)
    assert now.legs[0].lag is None
    assert "lag_seconds{" not in as_metrics(now)
    assert f'tieline_leg_in_flight{{leg="{LEG}",flow="orders",target="office",way="main"}} 3.0' in as_metrics(now)


def test_metrics_are_what_prometheus_reads():
    """Each family has its help and type once, before its samples; a quotation mark in a name ends no label."""

    def enter(stores):
        begin(stores)
        row = stores.legs.get(LEG)
        stores.legs.put(msgspec.structs.replace(row, leg='a"b\\c\nd', paused="the office is down"))
        stores.legs.count(LEG, entered=3, counts={"done": 2})
        stores.parked.put([parked("a", leg=LEG)])
        stores.sources.put("shop.order", SourceState(read_at=5.0, failure="cannot be read"))

    lines = as_metrics(ledger_with(enter)).splitlines()
    assert 'tieline_leg_paused{leg="a\\"b\\\\c\\nd",flow="orders",target="office",way="direct"} 1.0' in lines
    assert 'tieline_source_failing{source="shop.order"} 1.0' in lines
    assert 'tieline_source_read_timestamp_seconds{source="shop.order"} 5.0' in lines
    assert any(
        line.startswith("tieline_leg_outcomes_total{") and line.endswith('outcome="done"} 2.0') for line in lines
    )
    family = ""
    for line in lines:
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert lines.count(line) == 1
        elif line.startswith("# TYPE "):
            assert line.split()[2] == family
        else:
            assert line.split("{")[0].split()[0] == family
