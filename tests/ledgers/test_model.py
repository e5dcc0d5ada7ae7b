"""Channels and parked messages against simple models: any sequence of steps leaves the same in both."""

import asyncio
from collections import defaultdict

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tieline.errors import ConfigurationError
from tieline.ledger import Kept
from tieline.ledgers.memory import MemoryLedger
from tieline.message import Message, Reason, Version, pack_message
from tieline.testing.ledger.samples import leg, parked

steps = settings(max_examples=150, stateful_step_count=30)


class OnLedger(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.ledger = MemoryLedger()

    def do(self, work):
        coroutine = self.ledger.transact(work)
        try:
            coroutine.send(None)  # a ledger in memory never waits
        except StopIteration as done:
            return done.value
        raise AssertionError("it waited")

    def teardown(self):
        asyncio.run(self.ledger.close())


class ChannelModel(OnLedger):
    """A channel is a list per partition, of which the front is dropped; subscriptions are numbers."""

    PARTITIONS = 2
    names = st.sampled_from("abc")
    partitions = st.sampled_from(range(PARTITIONS))
    positions = st.dictionaries(partitions, st.integers(0, 12))

    def __init__(self):
        super().__init__()
        self.declared = False
        self.published = {p: [] for p in range(self.PARTITIONS)}
        self.dropped = dict.fromkeys(range(self.PARTITIONS), 0)
        self.subscribed = {}
        self.sequence = 0

    @initialize(subscriptions=st.lists(names, min_size=1, max_size=3))
    def begin(self, subscriptions):
        self.declare(subscriptions)

    @rule(subscriptions=st.lists(names, max_size=3))
    def declare(self, subscriptions):
        assert self.do(lambda s: s.channels.declare("c", self.PARTITIONS, subscriptions)) == self.PARTITIONS
        self.declared = True
        for name in subscriptions:
            self.subscribed.setdefault(name, {p: len(rows) for p, rows in self.published.items()})

    @rule(places=st.lists(st.tuples(partitions, st.integers(1, 5)), min_size=1, max_size=4))
    def append(self, places):
        rows = []
        for partition, count in places:
            self.sequence += 1
            rows.append((partition, self.sequence, count, f"{self.sequence}".encode()))
        if not self.declared:
            try:
                self.do(lambda s: s.channels.append("c", rows))
            except ConfigurationError:
                return
            raise AssertionError("appended to what is not declared")
        ends = self.do(lambda s: s.channels.append("c", rows))
        for row in rows:
            self.published[row[0]].append(row)
        assert ends == {p: len(self.published[p]) for p, _ in places}

    @rule(name=names, positions=positions)
    def done(self, name, positions):
        reached = {p: min(at, len(self.published[p])) for p, at in positions.items()}
        self.do(lambda s: s.channels.done("c", name, reached))
        if name in self.subscribed:
            for p, at in reached.items():
                self.subscribed[name][p] = max(self.subscribed[name][p], at)
        for p in reached:
            if self.subscribed:
                needless = min(at[p] for at in self.subscribed.values())
                self.dropped[p] = max(self.dropped[p], needless)

    @rule(name=names)
    def forget(self, name):
        self.do(lambda s: s.channels.forget("c", name))
        if self.subscribed.pop(name, None) is not None and not self.subscribed:
            self.declared = False
            self.dropped = {p: len(rows) for p, rows in self.published.items()}

    @rule(after=positions, most=st.integers(1, 12))
    def read(self, after, most):
        found = self.do(lambda s: s.channels.read("c", after, most))
        following = {
            p: [
                Kept(p, position, *row[1:])
                for position, row in enumerate(self.published[p], 1)
                if position > max(at, self.dropped[p])
            ]
            for p, at in after.items()
        }
        got = defaultdict(list)
        for kept in found:
            got[kept.partition].append(kept)
        for p, rows in got.items():
            assert rows == following[p][: len(rows)]
        total = sum(kept.count for kept in found)
        assert len(found) == 1 or total <= most
        if not found:
            assert not any(following.values())
        elif (left := sum(map(len, following.values())) - len(found)) and len(found) > 0:
            assert left > 0
            assert total + 5 > most or total >= most  # one more might have been too much

    @rule(after=positions)
    def depth(self, after):
        expected = sum(
            row[2]
            for p, at in after.items()
            for position, row in enumerate(self.published[p], 1)
            if position > max(at, self.dropped[p])
        )
        assert self.do(lambda s: s.channels.depth("c", after)) == expected

    @invariant()
    def ends(self):
        expected = {p: len(rows) for p, rows in self.published.items()} if self.declared else {}
        assert self.do(lambda s: s.channels.ends("c")) == expected


class ParkedModel(OnLedger):
    """One row per key; what may replace it is one comparison."""

    keys = st.sampled_from(["a", "b"])
    counters = st.integers(1, 4)

    def __init__(self):
        super().__init__()
        self.rows = {}
        self.last = {}

    @initialize()
    def begin(self):
        self.do(lambda s: s.legs.put(leg()))

    @rule(
        batch=st.lists(
            st.tuples(
                keys,
                counters,
                st.integers(0, 1),
                st.sampled_from(Reason),
                st.integers(0, 9),
                st.sampled_from([None, ("Customer", "1"), ("Customer", "2")]),
            ),
            max_size=4,
        )
    )
    def put(self, batch):
        rows = [
            parked(key, counter, edit, reason=reason, not_before=float(when), waits_for=waits)
            for key, counter, edit, reason, when, waits in batch
        ]
        superseded = []
        for row in rows:
            old = self.rows.get(row.key)
            same = old is not None and old.message_id == row.message_id
            if old is None or (same and not old.decision) or (not same and row.version > old.version):
                if old is not None and not same:
                    superseded.append(old)
                self.rows[row.key] = row
        assert self.do(lambda s: s.parked.put(rows)) == superseded

    @rule(key=keys, counter=counters, edit=st.integers(0, 1))
    def remove(self, key, counter, edit):
        message_id = parked(key, counter, edit).message_id
        there = key in self.rows and self.rows[key].message_id == message_id
        assert self.do(lambda s: s.parked.remove("orders→erp", [(key, message_id)])) == int(there)
        if there:
            del self.rows[key]

    @rule(key=keys, counter=counters, edit=st.integers(0, 1), decision=st.sampled_from(["replay", "drop", ""]))
    def decide(self, key, counter, edit, decision):
        message_id = parked(key, counter, edit).message_id
        there = key in self.rows and self.rows[key].message_id == message_id
        assert self.do(lambda s: s.parked.decide("orders→erp", key, message_id, decision, "ann")) == there
        if there:
            self.rows[key] = msgspec.structs.replace(self.rows[key], decision=decision, decided_by="ann")

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def edit(self, data):
        row = self.rows[data.draw(st.sampled_from(sorted(self.rows)))]
        if row.version.edit:
            return
        version = Version(row.version.epoch, row.version.counter, 1)
        message = Message(parked(row.key, version.counter, 1).message_id, row.key, version, msgspec.Raw(b"{}"))
        packed = pack_message(message)
        assert self.do(lambda s: s.parked.decide(row.leg, row.key, row.message_id, "edit", "ann", packed))
        self.rows[row.key] = msgspec.structs.replace(
            row,
            version=version,
            message_id=message.id,
            message=packed,
            decision="edit",
            decided_by="ann",
        )

    @rule(number=st.sampled_from(["1", "2"]))
    def wake(self, number):
        woken = {
            key: row
            for key, row in self.rows.items()
            if row.reason is Reason.REFERENCE and row.waits_for == ("Customer", number)
        }
        assert self.do(lambda s: s.parked.wake("erp", "Customer", [number])) == len(woken)
        for key, row in woken.items():
            (now,) = self.do(lambda s, key=key: s.parked.by_key("orders→erp", [key]))
            assert now.not_before > 1e9
            self.rows[key] = msgspec.structs.replace(row, reason=Reason.RETRY, not_before=now.not_before)

    @rule(now=st.integers(0, 9))
    def due(self, now):
        expected = {
            key
            for key, row in self.rows.items()
            if row.decision or (row.reason in {Reason.RETRY, Reason.DOUBT} and row.not_before <= now)
        }
        assert {row.key for row in self.do(lambda s: s.parked.due("orders→erp", now, 9))} == expected

    @invariant()
    def same(self):
        found = self.do(lambda s: s.parked.list("orders→erp"))
        assert {row.key: row for row in found} == self.rows
        counts = defaultdict(int)
        for row in self.rows.values():
            counts[row.reason] += 1
        assert self.do(lambda s: s.parked.counts("orders→erp")) == counts


TestChannels = ChannelModel.TestCase
TestChannels.settings = steps
TestParked = ParkedModel.TestCase
TestParked.settings = steps
