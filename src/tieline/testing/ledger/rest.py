"""Legs and their counts, what targets hold, inboxes, and notes."""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial

import msgspec
import pytest

from tieline.connector import LegState
from tieline.ledger import InboxRow, LegRow, SourceState, Stores, Way
from tieline.message import Version
from tieline.testing.ledger.bench import Bench, Suite
from tieline.testing.ledger.samples import HOSTILE, held, id_of, leg

LEG = "orders→erp"
OUT = "shop.order/out"


class LegsKept(Suite):
    """What `Stores.legs` promises."""

    def test_a_leg_is_found_by_name_and_by_source(self, bench: Bench) -> None:
        """As it was put; unknown ones are not there."""
        rows = [leg(), leg("orders→crm", "crm"), leg("stock→shop", "shop", "erp.stock")]
        for row in rows:
            bench(partial(_put_leg, row=row))
        assert bench(lambda stores: stores.legs.get(LEG)) == rows[0]
        assert bench(lambda stores: stores.legs.of_source("shop.order")) == rows[:2]
        assert bench(lambda stores: stores.legs.all()) == rows
        assert bench(lambda stores: stores.legs.get("nobody's")) is None

    def test_many_legs_are_found_by_name_at_once(self, bench: Bench) -> None:
        """Those that are known, each with its counts."""
        rows = [leg(), leg("orders→crm", "crm"), leg("stock→shop", "shop", "erp.stock")]
        for row in rows:
            bench(partial(_put_leg, row=row))
        bench(lambda stores: stores.legs.count(LEG, 5))
        found = bench(lambda stores: stores.legs.among([LEG, "stock→shop", "nobody's"]))
        assert found == {LEG: msgspec.structs.replace(rows[0], entered=5), "stock→shop": rows[2]}
        assert bench(lambda stores: stores.legs.among([])) == {}

    def test_who_has_something_before_it_is_told(self, bench: Bench) -> None:
        """A leg with a batch after one of its positions; not who is level, and not for what is dropped already."""
        other = "orders→crm"
        bench(lambda stores: stores.channels.declare(OUT, 2, [LEG, other]))
        bench(lambda stores: stores.legs.move(LEG, OUT, {0: LegState(), 1: LegState()}))
        bench(lambda stores: stores.legs.move(other, OUT, {0: LegState(), 1: LegState()}))
        assert bench(lambda stores: stores.legs.behind()) == []
        bench(lambda stores: stores.channels.append(OUT, [(1, 1, 3, b"a"), (1, 2, 3, b"b")]))
        assert sorted(bench(lambda stores: stores.legs.behind())) == sorted([(LEG, OUT), (other, OUT)])
        bench(lambda stores: stores.legs.move(LEG, OUT, {1: LegState(2, 2)}))
        assert bench(lambda stores: stores.legs.behind()) == [(other, OUT)]
        bench(lambda stores: stores.channels.done(OUT, LEG, {1: 2}))
        bench(lambda stores: stores.channels.done(OUT, other, {1: 2}))
        assert bench(lambda stores: stores.legs.behind()) == []

    def test_putting_a_leg_again_keeps_its_counts(self, bench: Bench) -> None:
        """Ways and pauses change; what was counted stands."""
        bench(lambda stores: stores.legs.put(leg()))
        bench(lambda stores: stores.legs.count(LEG, 5, {"done": 3}))
        ways = [Way("direct", OUT, 4, 0, 17), Way("main", "orders", 8, 17)]
        changed = msgspec.structs.replace(leg(), ways=ways, paused="erp is down \0", probe_at=12.5, entered=99)
        bench(lambda stores: stores.legs.put(changed))
        found = bench(lambda stores: stores.legs.get(LEG))
        assert found is not None
        assert (found.ways, found.probe_at, found.entered, found.counts) == (ways, 12.5, 5, {"done": 3})
        assert found.paused.startswith("erp is down")

    def test_counts_add_up(self, bench: Bench) -> None:
        """What came in and what became of it, each in its own number; corrections may be negative."""
        bench(lambda stores: stores.legs.put(leg()))
        bench(lambda stores: stores.legs.count(LEG, 5))
        bench(lambda stores: stores.legs.count(LEG, counts={"done": 3, "stale": 1}))
        bench(lambda stores: stores.legs.count(LEG, 2, {"done": 4, "stale": -1}))
        found = bench(lambda stores: stores.legs.get(LEG))
        assert found is not None
        assert found.entered == 7
        assert +_counter(found.counts) == {"done": 7}

    def test_positions_are_kept_by_leg_channel_and_partition(self, bench: Bench) -> None:
        """Each place has one state, replaced by the next; others do not move."""
        first = LegState(5, 3, 1, {"done": 9})
        bench(lambda stores: stores.legs.move(LEG, OUT, {0: first, 3: LegState(2**40, 2**40, 7)}))
        bench(lambda stores: stores.legs.move(LEG, "orders", {0: LegState(1)}))
        bench(lambda stores: stores.legs.move("orders→crm", OUT, {0: LegState(2)}))
        bench(lambda stores: stores.legs.move(LEG, OUT, {3: LegState(8, 9, 10, {"stale": 1})}))
        assert bench(lambda stores: stores.legs.states(LEG, OUT)) == {0: first, 3: LegState(8, 9, 10, {"stale": 1})}
        assert bench(lambda stores: stores.legs.states(LEG, "nobody's")) == {}

    def test_totals_add_up_all_places(self, bench: Bench) -> None:
        """The outcomes kept in the ledger, and those of every channel and partition of the leg."""
        bench(lambda stores: stores.legs.count(LEG, 100, {"done": 1, "superseded": 2}))
        bench(lambda stores: stores.legs.move(LEG, OUT, {0: LegState(counts={"done": 10}), 1: LegState()}))
        bench(lambda stores: stores.legs.move(LEG, "orders", {0: LegState(counts={"done": 100, "stale": 5})}))
        bench(lambda stores: stores.legs.move("orders→crm", OUT, {0: LegState(counts={"done": 1000})}))
        assert bench(lambda stores: stores.legs.totals(LEG)) == {"done": 111, "superseded": 2, "stale": 5}
        assert bench(lambda stores: stores.legs.totals("nobody's")) == {}

    def test_the_totals_of_all_legs_are_those_of_each(self, bench: Bench) -> None:
        """One look for all gives what a look at each would give, of those that have any."""
        bench(lambda stores: stores.legs.count(LEG, 100, {"done": 1, "superseded": 2}))
        bench(lambda stores: stores.legs.move(LEG, OUT, {0: LegState(counts={"done": 10}), 1: LegState()}))
        bench(lambda stores: stores.legs.move("orders→crm", OUT, {0: LegState(counts={"done": 1000})}))
        bench(lambda stores: stores.legs.count("stock→shop", 5))
        totals = bench(lambda stores: stores.legs.all_totals())
        assert totals == {LEG: {"done": 11, "superseded": 2}, "orders→crm": {"done": 1000}}

    def test_what_is_ahead_of_legs_is_the_next_batch_of_each_partition(self, bench: Bench) -> None:
        """Behind the leg's position, or where it has none, behind its subscription; only as much as is asked for."""
        data = [b"first", b"second", b"other"]

        def publish(stores: Stores) -> None:
            stores.channels.declare(OUT, 2, [LEG, "orders→crm"])
            stores.channels.append(OUT, [(0, 1, 1, data[0]), (0, 2, 1, data[1]), (1, 2, 1, data[2])])

        bench(publish)
        found = bench(lambda stores: stores.legs.ahead([LEG, "orders→crm", "nobody's"], 4))
        assert {leg: sorted(heads) for leg, heads in found.items()} == {
            LEG: [b"firs", b"othe"],
            "orders→crm": [b"firs", b"othe"],
        }
        bench(lambda stores: stores.legs.move(LEG, OUT, {0: LegState(1), 1: LegState(1)}))
        bench(lambda stores: stores.channels.done(OUT, "orders→crm", {0: 2}))
        found = bench(lambda stores: stores.legs.ahead([LEG, "orders→crm"], 100))
        assert found == {LEG: [b"second"], "orders→crm": [b"other"]}


def _counter(counts: dict[str, int]) -> Counter[str]:
    return Counter(counts)


class SourcesKept(Suite):
    """What `Stores.sources` promises beside what the other parts show."""

    def test_when_sources_were_read_is_noted_for_many_at_once(self, bench: Bench) -> None:
        """It never goes back, changes nothing else, and makes no state where there is none."""
        state = SourceState(counter=7, cursor="c", read_at=100.0)
        bench(lambda stores: stores.sources.put("a", state))
        bench(lambda stores: stores.sources.put("b", state))
        bench(lambda stores: stores.sources.were_read({"a": 150.5, "b": 50.0, "nobody's": 1.0}))
        later = msgspec.structs.replace(state, read_at=150.5)
        assert bench(lambda stores: stores.sources.all()) == {"a": later, "b": state}


class HeldKept(Suite):
    """What `Stores.held` promises."""

    def test_a_key_has_one_row_per_source(self, bench: Bench) -> None:
        """Each source's last word stands beside the others', every field as it was put."""
        rows = [held("a"), held("a", "erp.order", 9, deleted=True, target_id=None, version_tag=None)]
        bench(lambda stores: stores.held.put("erp", "Order", rows))
        found = bench(lambda stores: stores.held.get("erp", "Order", ["a", "b"]))
        assert sorted(found, key=lambda row: row.source, reverse=True) == rows

    def test_a_row_is_replaced_by_the_next(self, bench: Bench) -> None:
        """Within target, entity, key and source there is one row."""
        bench(lambda stores: stores.held.put("erp", "Order", [held("a")]))
        bench(lambda stores: stores.held.put("erp", "Order", [held("a", counter=2, step=3)]))
        assert bench(lambda stores: stores.held.get("erp", "Order", ["a"])) == [held("a", counter=2, step=3)]

    def test_targets_and_entities_do_not_mix(self, bench: Bench) -> None:
        """The same key elsewhere is something else."""
        bench(lambda stores: stores.held.put("erp", "Order", [held("a")]))
        bench(lambda stores: stores.held.put("erp", "Invoice", [held("a", counter=2)]))
        bench(lambda stores: stores.held.put("crm", "Order", [held("a", counter=3)]))
        assert bench(lambda stores: stores.held.get("erp", "Order", ["a"])) == [held("a")]
        assert bench(lambda stores: stores.held.get("bi", "Order", ["a"])) == []
        assert bench(lambda stores: stores.held.get("erp", "Order", [])) == []

    def test_open_claims_are_told(self, bench: Bench) -> None:
        """Calls that were begun and not confirmed, oldest first."""
        claims = [
            held("b", claim=id_of(7), claimed_at=20.5, claim_version=Version(1, 7, 1)),
            held("c", claim=id_of(8), claimed_at=10.5, claim_version=Version(1, 8)),
        ]
        bench(lambda stores: stores.held.put("erp", "Order", [held("a"), *claims]))
        bench(lambda stores: stores.held.put("crm", "Order", [held("d", claim=id_of(9))]))
        assert bench(lambda stores: stores.held.claimed("erp", "Order")) == [claims[1], claims[0]]
        bench(lambda stores: stores.held.put("erp", "Order", [held("b"), held("c")]))
        assert bench(lambda stores: stores.held.claimed("erp", "Order")) == []

    @pytest.mark.parametrize("crowd", [0, 300])
    @pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
    def test_any_text_can_be_held(self, bench: Bench, text: str, crowd: int) -> None:
        """Keys, and a target's own ids and version tags, come back as they were."""
        row = held(text, target_id=f"id {text}", version_tag=f"tag {text}")
        bench(lambda stores: stores.held.put("erp", "Order", [*(held(f"{n}") for n in range(crowd)), row]))
        assert bench(lambda stores: stores.held.get("erp", "Order", [text])) == [row]


class InboxKept(Suite):
    """What `Stores.inbox` promises."""

    def test_what_comes_in_is_read_in_order(self, bench: Bench) -> None:
        """Everything, also the same record twice, by a position that grows; and again until it is removed."""
        bench(lambda stores: stores.inbox.append("shop.order", [("1", b"a", ""), ("2", b"", "erp")]))
        bench(lambda stores: stores.inbox.append("shop.order", [("1", b"\0b", "")]))
        rows = bench(lambda stores: stores.inbox.read("shop.order", 10))
        assert [(row.record, row.data, row.origin) for row in rows] == [
            ("1", b"a", ""),
            ("2", b"", "erp"),
            ("1", b"\0b", ""),
        ]
        positions = [row.position for row in rows]
        assert positions == sorted(set(positions))
        assert bench(lambda stores: stores.inbox.read("shop.order", 2)) == rows[:2]
        assert bench(lambda stores: stores.inbox.read("erp.order", 2)) == []

    def test_what_is_in_a_batch_is_removed(self, bench: Bench) -> None:
        """Up to a position; what came later stays, and positions are never given twice."""
        bench(lambda stores: stores.inbox.append("shop.order", [(f"{n}", b"x", "") for n in range(5)]))
        bench(lambda stores: stores.inbox.append("erp.order", [("other", b"x", "")]))
        third = bench(lambda stores: stores.inbox.read("shop.order", 3))[-1].position
        bench(lambda stores: stores.inbox.remove("shop.order", third))
        assert bench(lambda stores: stores.inbox.depth("shop.order")) == 2
        assert bench(lambda stores: stores.inbox.depth("erp.order")) == 1
        last = bench(lambda stores: stores.inbox.read("shop.order", 9))[-1].position
        bench(lambda stores: stores.inbox.remove("shop.order", last))
        assert bench(lambda stores: stores.inbox.depth("shop.order")) == 0
        bench(lambda stores: stores.inbox.append("shop.order", [("new", b"x", "")]))
        assert bench(lambda stores: stores.inbox.read("shop.order", 9))[0].position > last

    def test_the_sources_for_which_anything_is_there_are_told(self, bench: Bench) -> None:
        """Until all of it is removed."""
        assert bench(lambda stores: stores.inbox.filled()) == []
        bench(lambda stores: stores.inbox.append("shop.order", [("1", b"a", ""), ("2", b"", "erp")]))
        bench(lambda stores: stores.inbox.append("erp.order", [("1", b"a", "")]))
        assert sorted(bench(lambda stores: stores.inbox.filled())) == ["erp.order", "shop.order"]
        last = bench(lambda stores: stores.inbox.read("shop.order", 9))[-1].position
        bench(lambda stores: stores.inbox.remove("shop.order", last))
        assert bench(lambda stores: stores.inbox.filled()) == ["erp.order"]

    @pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
    def test_any_text_can_come_in(self, bench: Bench, text: str) -> None:
        """A record's id is kept as it was pushed."""
        bench(lambda stores: stores.inbox.append("shop.order", [(text, b"x", "")]))
        assert bench(lambda stores: stores.inbox.read("shop.order", 9))[0].record == text

    def test_nothing_is_removed_unread(self, bench: Bench, sharing: None) -> None:
        """While several callers push, a reader that removes what it read has read all of it."""
        writers = [bench.another() for _ in range(3)]
        found: list[InboxRow] = []

        def push(writer: int, number: int) -> Callable[[Stores], None]:
            return lambda stores: stores.inbox.append("shop.order", [(f"{writer}:{number}", b"x", "")])

        async def write(writer: int) -> None:
            for number in range(30):
                await writers[writer].ledger.transact(push(writer, number))

        async def read() -> None:
            while len(found) < 90:
                rows = await bench.ledger.transact(lambda stores: stores.inbox.read("shop.order", 7))
                if rows:
                    found.extend(rows)
                    await bench.ledger.transact(partial(_remove, last=rows[-1].position))

        async def all_at_once() -> None:
            async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
                tasks.create_task(read())
                for writer in range(3):
                    tasks.create_task(write(writer))

        bench.run(all_at_once())
        assert sorted(row.record for row in found) == sorted(f"{w}:{n}" for w in range(3) for n in range(30))


class NotesKept(Suite):
    """What `Stores.notes` promises."""

    def test_a_note_keeps_any_json(self, bench: Bench) -> None:
        """Under its name, until the next one; None takes it away."""
        value = {"list": [1, 2.5, None, True], "text": 'ü \0 "quoted"'}
        bench(lambda stores: stores.notes.put("a", 1))
        bench(lambda stores: stores.notes.put("a", value))
        assert bench(lambda stores: stores.notes.get("a")) == value
        bench(lambda stores: stores.notes.put("a", None))
        assert bench(lambda stores: stores.notes.get("a")) is None
        assert bench(lambda stores: stores.notes.starting("")) == {}

    def test_notes_are_found_by_how_they_begin(self, bench: Bench) -> None:
        """Letter by letter: no sign in a name is a wild card."""
        names = ["brake/a", "brake/b", "brake_x", "Brake/c", "100%", "100% sure", "1000"]
        for name in names:
            bench(partial(_put_note, name=name))
        found = bench(lambda stores: stores.notes.starting("brake/"))
        assert found == {"brake/a": "brake/a", "brake/b": "brake/b"}
        assert bench(lambda stores: stores.notes.starting("100%")).keys() == {"100%", "100% sure"}
        assert bench(lambda stores: stores.notes.starting("")).keys() == set(names)


def _put_leg(stores: Stores, row: LegRow) -> None:
    stores.legs.put(row)


def _put_note(stores: Stores, name: str) -> None:
    stores.notes.put(name, name)


def _remove(stores: Stores, last: int) -> None:
    stores.inbox.remove("shop.order", last)
