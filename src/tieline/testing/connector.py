"""The connector suite: what every keeper of the connector port promises, proved against the real thing.

A keeper's test file gives the suite a `Counterpart`, the system on the other side as it is reached
without the connector, and inherits the tests:

    class TestMine(ConnectorSuite):
        @pytest.fixture
        def counterpart(self, tmp_path):
            server = MyServer(tmp_path)
            yield Counterpart(
                connector=MyTechnology(orders=Table(id="number")),
                system=SystemSettings("mine", server.url),
                put=server.put,
                drop=server.drop,
                rows=server.rows,
                gone=SystemSettings("mine", server.url_where_nobody_answers),
            )
            server.stop()

What its capabilities do not claim is not asked of it: those tests are skipped.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec
import pytest

from tieline.connector import (
    Capabilities,
    Change,
    Checkpoint,
    Connector,
    ConnectorSettings,
    HeldRow,
    LegState,
    Page,
    Record,
    Result,
)
from tieline.errors import Fenced, Reject, Unavailable
from tieline.message import Version
from tieline.settings import SystemSettings

T = TypeVar("T")

TEXTS: Final = {
    "umlauts": "Ünïcödé, ß, ﬁ, Ελληνικά, עברית, 漢字",
    "combining": "e\u0301 is not \u00e9",  # nothing may normalise what it only carries
    "emoji": "👩🏽‍🚒🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "quotes": """'single' "double" `back` ''twice'' \\' \\" $$dollar$$ ; drop table orders; --""",
    "markup": "<b>&amp;</b> %s %(x)s $1 ?1 :name {0} \\N \\. \\x41",
    "white": " \t\r\n leading, trailing \r\n\t ",
    "separators": "a/b\\c,d;e|f\u2028g\u2029h\u00a0i\ufeffj",
    "empty": "",
    "null-like": "NULL",
    "nul": "before\0after",
    "control": "".join(map(chr, range(1, 32))),
    "private": "\ue000\U0010fffd",
    "huge": "x" * 1_000_000,
    "huge and wide": "€" * 340_000,
}
"""Texts that go through unchanged, or are rejected; never a third way."""

_AMOUNTS = "0.1 0.30 0.125 1.005 -0.01 12345678901234567.89 99999999999999.99 1E+3 0 1000000"
AMOUNTS: Final = tuple(_AMOUNTS.split(" "))
"""Amounts that come back to the last digit, or are rejected."""

IDS: Final = (
    "1001",
    "A/B",
    "a\\b",
    "o'clock",
    'say "hi"',
    "50 %",
    "Zoë",
    "$1",
    "?1",
    "NULL",
    "x;y--",
    " ",
    "漢/\\字",
)
"""Ids that a system of texts may have."""


@dataclass(frozen=True, slots=True)
class Names:
    """How the resource calls its fields; with no `lines`, records have no list inside."""

    id: str = "number"
    text: str = "note"
    amount: str = "total"
    lines: str = "lines"
    line: str = "line"
    price: str = "price"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterpart:
    """The system on the other side, reached without the connector.

    `put` makes or replaces a whole record, `drop` deletes one by its id, `rows` gives all records by
    id. `gone` is an address where nobody answers. `put_late` puts a record as if it had been changed
    so many seconds ago, and been committed only now. `spoil` makes the system refuse a record.
    `many` is a number of records that fills several pages. Ids are texts, unless `numeric_ids`.
    """

    connector: ConnectorSettings
    system: SystemSettings
    put: Callable[[Record], None]
    drop: Callable[[str], None]
    rows: Callable[[], Mapping[str, Record]]
    resource: str = "orders"
    names: Names = Names()
    gone: SystemSettings | None = None
    put_late: Callable[[Record, float], None] | None = None
    spoil: Callable[[Record], Record] | None = None
    many: int = 130
    numeric_ids: bool = False

    @property
    def facts(self) -> Capabilities:
        """What the resource claims."""
        return self.connector.open(self.system).capabilities(self.resource)

    @asynccontextmanager
    async def opened(self, system: SystemSettings | None = None) -> AsyncIterator[Connector]:
        """A connector of its own, closed at the end."""
        connector = self.connector.open(system or self.system)
        try:
            yield connector
        finally:
            await connector.close()

    def order(self, id: str, text: str = "new", amount: str = "12.50", lines: int = 2) -> Record:
        """A record as the suite uses it."""
        names = self.names
        record: Record = {names.id: id, names.text: text, names.amount: Decimal(amount)}
        if names.lines:
            record[names.lines] = [
                {names.line: number, names.price: Decimal(f"{number}.25")} for number in range(1, lines + 1)
            ]
        return record

    def orders(self, count: int) -> list[Record]:
        """Records with ids of one length."""
        return [self.order(str(10_000 + number)) for number in range(count)]


class ConnectorSuite:
    """Inherit it, and give a `counterpart` fixture."""

    # --- reading

    def test_reads_every_record_as_it_is(self, counterpart: Counterpart) -> None:
        """A reading from the start shows each record once, with all its fields and lines."""
        orders = _put(counterpart, 5)
        pages = _read(counterpart)
        assert sorted(_ids(pages)) == sorted(orders)
        for id, record in _records(pages).items():
            _assert_holds(record, orders[id], counterpart.names)

    def test_an_empty_resource_is_empty(self, counterpart: Counterpart) -> None:
        """Where there is nothing, there are no records, and it is no error."""
        _needs(counterpart.facts.reads, "reads")
        assert _ids(_read(counterpart)) == []

    def test_each_record_has_its_id(self, counterpart: Counterpart) -> None:
        """A page's ids are those that the settings give of its records, one each, no two alike."""
        _put(counterpart, 5)
        pages = _read(counterpart)
        for page in pages:
            told = [counterpart.connector.identify(counterpart.resource, record) for record in page.records]
            assert page.ids == told
        assert len(set(_ids(pages))) == 5

    def test_many_records_come_in_pages(self, counterpart: Counterpart) -> None:
        """More than a page is read whole, each record once, and not as one page."""
        orders = _put(counterpart, counterpart.many)
        pages = _read(counterpart)
        assert sorted(_ids(pages)) == sorted(orders)
        assert len(pages) > 1

    def test_a_checkpoint_is_json(self, counterpart: Counterpart) -> None:
        """What a checkpoint holds survives being stored as JSON."""
        _needs(counterpart.facts.incremental, "reads what changed")
        _put(counterpart, 5)
        for page in _read(counterpart):
            assert json.loads(msgspec.json.encode(page.checkpoint)) == page.checkpoint

    def test_reading_goes_on_from_any_page(self, counterpart: Counterpart) -> None:
        """After a crash behind any page, the pages so far and a reading from there show everything."""
        _needs(counterpart.facts.ordered, "has a checkpoint for each page")
        orders = _put(counterpart, counterpart.many)
        pages = _read(counterpart)
        for number in sorted({0, 1, len(pages) // 2, len(pages) - 1} & set(range(len(pages)))):
            rest = _read(counterpart, pages[number].checkpoint)
            assert set(_ids(pages[: number + 1])) | set(_ids(rest)) == set(orders), f"after page {number}"

    def test_reads_what_changed(self, counterpart: Counterpart) -> None:
        """From the last checkpoint on, what was changed or added since is shown, and not all the rest."""
        _needs(counterpart.facts.incremental, "reads what changed")
        _put(counterpart, counterpart.many)
        since = _last_checkpoint(counterpart)
        counterpart.put(counterpart.order("10003", "changed"))
        counterpart.put(counterpart.order("99999", "added"))
        pages = _read(counterpart, since)
        found = _records(pages)
        assert found["10003"][counterpart.names.text] == "changed"
        assert found["99999"][counterpart.names.text] == "added"

        pages = _read(counterpart, _last_of(pages, since))
        counterpart.put(counterpart.order("10007", "later"))
        found = _records(_read(counterpart, _last_of(pages, since)))
        assert "10007" in found
        assert len(found) < counterpart.many / 2

    def test_a_record_committed_late_is_not_missed(self, counterpart: Counterpart) -> None:
        """What was changed before the checkpoint and committed after it is shown by the overlap."""
        if counterpart.put_late is None:
            pytest.skip("cannot play a late commit")
        _needs(counterpart.facts.incremental, "reads what changed")
        _put(counterpart, 5)
        since = _last_checkpoint(counterpart)
        counterpart.put(counterpart.order("10001", "in time"))
        since = _last_of(_read(counterpart, since, overlap=300.0), since)
        counterpart.put_late(counterpart.order("77777", "late"), 60.0)
        assert "77777" in _ids(_read(counterpart, since, overlap=300.0))

    def test_a_repeated_overlap_does_not_lose_its_place(self, counterpart: Counterpart) -> None:
        """Reading again and again with an overlap, and stopping after one page, never goes backwards."""
        _needs(counterpart.facts.ordered, "has a checkpoint for each page")
        _put(counterpart, counterpart.many)
        since = _last_checkpoint(counterpart)

        async def first_page(after: Checkpoint) -> Checkpoint:
            async with counterpart.opened() as connector:
                async for page in connector.read(counterpart.resource, after, {"overlap": 300.0}):
                    return page.checkpoint if page.checkpoint is not None else after
            return after

        for _ in range(3):
            since = asyncio.run(first_page(since))
        counterpart.put(counterpart.order("99999", "added"))
        assert "99999" in _ids(_read(counterpart, since))
        assert len(_ids(_read(counterpart, since))) < counterpart.many

    def test_rows_that_come_and_go_hide_no_other(self, counterpart: Counterpart) -> None:
        """While rows are added and deleted between the pages, every row that was there throughout is read."""
        orders = _put(counterpart, counterpart.many)
        ids = sorted(orders)
        leaving, staying = ids[::7], set(ids) - set(ids[::7])

        async def work() -> set[str]:
            found: set[str] = set()
            async with counterpart.opened() as connector:
                async for page in connector.read(counterpart.resource):
                    found |= set(page.ids)
                    for id in leaving[:3]:
                        counterpart.drop(id)
                    counterpart.put(counterpart.order(str(20_000 + len(found))))
                    counterpart.put(counterpart.order(str(5_000 + len(found))))
                    del leaving[:3]
            return found

        assert staying <= asyncio.run(work())

    def test_keys_are_complete(self, counterpart: Counterpart) -> None:
        """`keys` lists each id once, whatever was changed last."""
        _needs(counterpart.facts.keys, "lists keys")
        orders = _put(counterpart, counterpart.many)
        counterpart.put(counterpart.order("10002", "changed"))
        counterpart.drop("10004")
        assert sorted(_keys(counterpart)) == sorted(orders.keys() - {"10004"})

    def test_deleted_records_are_told_or_left_out(self, counterpart: Counterpart) -> None:
        """A deleted record is not read any more; at most its id is told as gone."""
        _put(counterpart, 5)
        since = _last_checkpoint(counterpart)
        counterpart.drop("10003")
        assert "10003" not in _ids(_read(counterpart))
        if counterpart.facts.incremental:
            assert "10003" not in _ids(_read(counterpart, since))

    # --- look-up

    def test_looks_up_in_the_order_asked(self, counterpart: Counterpart) -> None:
        """Each id asked for gets its record or None, in its place, also when it is asked for twice."""
        _needs(counterpart.facts.lookup, "looks up")
        _put(counterpart, 5)
        asked = ["10003", "nobody", "10000", "", "10003", "10004"]
        found = _lookup(counterpart, asked)
        told = [record and str(record[counterpart.names.id]) for record in found]
        assert told == ["10003", None, "10000", None, "10003", "10004"]

    def test_a_look_up_of_nothing_is_empty(self, counterpart: Counterpart) -> None:
        """No ids, no records."""
        _needs(counterpart.facts.lookup, "looks up")
        assert _lookup(counterpart, []) == []

    def test_a_look_up_gives_what_reading_gives(self, counterpart: Counterpart) -> None:
        """The record of a look-up is the one that is read, lines and all."""
        _needs(counterpart.facts.lookup, "looks up")
        _put(counterpart, 3)
        records = _records(_read(counterpart))
        assert _lookup(counterpart, list(records)) == list(records.values())

    def test_looks_up_by_a_field(self, counterpart: Counterpart) -> None:
        """By another field, the record with that value is found."""
        _needs(counterpart.facts.lookup, "looks up")
        _put(counterpart, 3)
        counterpart.put(counterpart.order("10009", "the one"))
        found = _lookup(counterpart, ["nobody's", "the one"], by=counterpart.names.text)
        assert [record and str(record[counterpart.names.id]) for record in found] == [None, "10009"]

    def test_looks_up_many_at_once(self, counterpart: Counterpart) -> None:
        """A whole batch is looked up in one call."""
        _needs(counterpart.facts.lookup, "looks up")
        orders = _put(counterpart, counterpart.many)
        found = _lookup(counterpart, [*orders, *(f"no {id}" for id in orders)])
        assert [record is not None for record in found] == [True] * len(orders) + [False] * len(orders)

    @pytest.mark.parametrize("id", IDS)
    def test_any_text_may_be_an_id(self, counterpart: Counterpart, id: str) -> None:
        """An id with quotes, slashes, spaces or other scripts is read, listed, found, written and deleted."""
        if counterpart.numeric_ids:
            pytest.skip("ids are numbers there")
        counterpart.put(counterpart.order("10000"))
        counterpart.put(counterpart.order(id, "this one"))
        facts = counterpart.facts
        (name,) = [
            name for name, record in _records(_read(counterpart)).items() if record[counterpart.names.id] == id
        ]
        if facts.keys:
            assert name in _keys(counterpart)
        if facts.lookup:
            (found,) = _lookup(counterpart, [name])
            assert found is not None
            assert found[counterpart.names.text] == "this one"
        if facts.upsert:
            (result,) = _write(counterpart, _change(counterpart.order(id, "written"), id))
            assert (result.error, result.target_id) == (None, name)
            assert counterpart.rows()[id][counterpart.names.text] == "written"
        if facts.deletes:
            assert _write(counterpart, Change(id, b"", None, name))[0].error is None
            assert set(counterpart.rows()) == {"10000"}

    # --- writing

    def test_writes_what_is_new(self, counterpart: Counterpart) -> None:
        """A new record stands there whole afterwards, and the result gives its id."""
        _needs(counterpart.facts.writes, "writes")
        (result,) = _write(counterpart, _change(counterpart.order("20000")))
        assert result.error is None
        assert result.target_id is not None
        (row,) = counterpart.rows().values()
        _assert_holds(row, counterpart.order("20000"), counterpart.names)

    def test_writes_what_changed(self, counterpart: Counterpart) -> None:
        """A change of a record that is there changes it, and makes no second one."""
        _needs(counterpart.facts.upsert, "writes over")
        counterpart.put(counterpart.order("20000"))
        (result,) = _write(counterpart, _change(counterpart.order("20000", "paid", "99.95")))
        assert result.error is None
        (row,) = counterpart.rows().values()
        _assert_holds(row, counterpart.order("20000", "paid", "99.95"), counterpart.names)

    def test_writing_twice_is_writing_once(self, counterpart: Counterpart) -> None:
        """The same changes once more leave the same rows, with the same ids."""
        _needs(counterpart.facts.upsert, "writes over")
        changes = [_change(order) for order in counterpart.orders(20)]
        first = _write(counterpart, *changes)
        rows = dict(counterpart.rows())
        second = _write(counterpart, *changes)
        assert [result.target_id for result in first] == [result.target_id for result in second]
        assert not any(result.error for result in (*first, *second))
        assert counterpart.rows() == rows

    def test_writes_many_at_once(self, counterpart: Counterpart) -> None:
        """A full batch is written whole, a result for each change in its place."""
        _needs(counterpart.facts.writes, "writes")
        orders = list(reversed(counterpart.orders(counterpart.many)))
        results = _write(counterpart, *map(_change, orders))
        assert [result.error for result in results] == [None] * len(orders)
        rows = counterpart.rows()
        assert len(rows) == len(orders)
        if counterpart.facts.upsert:
            assert [result.target_id for result in results] == [order[counterpart.names.id] for order in orders]

    def test_writing_nothing_does_nothing(self, counterpart: Counterpart) -> None:
        """No changes, no results."""
        _needs(counterpart.facts.writes, "writes")
        assert _write(counterpart) == []

    def test_changes_of_a_key_keep_their_order(self, counterpart: Counterpart) -> None:
        """Several changes of a key in one call end as one after the other would, deletes among them."""
        _needs(counterpart.facts.upsert and counterpart.facts.deletes, "writes over and deletes")
        first, second, third = (counterpart.order("20001", text, lines=n) for n, text in enumerate("abc", 1))
        other = _change(counterpart.order("20002", "other"))
        gone = Change("20001", b"", None, "20001")
        ends = {
            "c": [_change(first), other, _change(second), _change(third)],
            "b": [_change(first), gone, _change(third), other, _change(second)],
            None: [_change(first), other, _change(third), gone],
        }
        for end, changes in ends.items():
            results = _write(counterpart, *changes)
            assert not any(result.error for result in results)
            row = counterpart.rows().get("20001")
            assert (row and row[counterpart.names.text]) == end
        (row,) = counterpart.rows().values()
        _assert_holds(row, counterpart.order("20002", "other"), counterpart.names)

    @pytest.mark.parametrize("bad", [{0}, {19}, {7}, {0, 1, 2}, {3, 8, 18}, set(range(20))], ids=str)
    def test_a_bad_change_fails_alone(self, counterpart: Counterpart, bad: set[int]) -> None:
        """Of twenty changes, those that the system refuses are rejected, and all others are written."""
        spoil = _spoiler(counterpart)
        orders = [spoil(order) if number in bad else order for number, order in enumerate(counterpart.orders(20))]
        results = _write(counterpart, *map(_change, orders))
        assert {number for number, result in enumerate(results) if result.error is not None} == bad
        assert all(isinstance(results[number].error, Reject) for number in bad)
        good = {order[counterpart.names.id] for number, order in enumerate(orders) if number not in bad}
        assert set(counterpart.rows()) == good

    def test_deletes(self, counterpart: Counterpart) -> None:
        """A delete takes its row away, lines and all, and no other."""
        _needs(counterpart.facts.deletes, "deletes")
        _put(counterpart, 3)
        (result,) = _write(counterpart, Change("10001", b"", None, "10001"))
        assert result.error is None
        assert set(counterpart.rows()) == {"10000", "10002"}

    def test_deleting_what_is_not_there_is_done(self, counterpart: Counterpart) -> None:
        """A delete of a row that is gone already succeeds."""
        _needs(counterpart.facts.deletes, "deletes")
        _put(counterpart, 1)
        for id in ("nobody", "77"):
            (result,) = _write(counterpart, Change(id, b"", None, id))
            assert result.error is None
        assert set(counterpart.rows()) == {"10000"}

    def test_fields_that_are_not_given_stay(self, counterpart: Counterpart) -> None:
        """A record with some fields only leaves the others, and the lines, as they were."""
        _needs(counterpart.facts.upsert, "writes over")
        names = counterpart.names
        _put(counterpart, 3)
        results = _write(counterpart, *(_change({names.id: id, names.text: "paid"}) for id in ("10001", "10002")))
        assert not any(result.error for result in results)
        rows = counterpart.rows()
        _assert_holds(rows["10001"], counterpart.order("10001", "paid"), names)
        _assert_holds(rows["10000"], counterpart.order("10000"), names)

    def test_a_known_row_needs_no_id_in_its_record(self, counterpart: Counterpart) -> None:
        """With the target's id told beside it, a record without an id changes the row."""
        _needs(counterpart.facts.upsert, "writes over")
        names = counterpart.names
        _put(counterpart, 2)
        (result,) = _write(counterpart, Change("k", b"", {names.text: "paid"}, "10001"))
        assert (result.error, result.target_id) == (None, "10001")
        _assert_holds(counterpart.rows()["10001"], counterpart.order("10001", "paid"), names)

    def test_lines_are_replaced_as_a_whole(self, counterpart: Counterpart) -> None:
        """A line that a record does not have any more is removed; an empty list removes all."""
        _needs(counterpart.facts.upsert, "writes over")
        if not counterpart.names.lines:
            pytest.skip("its records have no lines")
        for lines in (3, 1, 4, 0, 2):
            many = [counterpart.order(f"2000{number}", lines=(lines + number) % 5) for number in range(4)]
            results = _write(counterpart, *map(_change, many))
            assert not any(result.error for result in results)
            rows = counterpart.rows()
            for order in many:
                _assert_holds(rows[order[counterpart.names.id]], order, counterpart.names)

    @pytest.mark.parametrize("kind", TEXTS)
    def test_a_text_goes_through_or_is_rejected(self, counterpart: Counterpart, kind: str) -> None:
        """A text is there and back to the last character, or its change alone is rejected."""
        _needs(counterpart.facts.upsert, "writes over")
        text, names = TEXTS[kind], counterpart.names
        orders = [counterpart.order("20000"), counterpart.order("20001", text), counterpart.order("20002")]
        results = _write(counterpart, *map(_change, orders))
        assert (results[0].error, results[2].error) == (None, None)
        if results[1].error is None:
            assert counterpart.rows()["20001"][names.text] == text
            assert _records(_read(counterpart))["20001"][names.text] == text
        else:
            assert isinstance(results[1].error, Reject)
            assert set(counterpart.rows()) == {"20000", "20002"}

    @pytest.mark.parametrize("amount", AMOUNTS)
    def test_an_amount_is_exact_or_rejected(self, counterpart: Counterpart, amount: str) -> None:
        """An amount comes back as a Decimal, equal to the last digit, or its change alone is rejected."""
        _needs(counterpart.facts.upsert, "writes over")
        names = counterpart.names
        results = _write(
            counterpart, _change(counterpart.order("20000")), _change(counterpart.order("20001", amount=amount))
        )
        assert results[0].error is None
        found = _records(_read(counterpart))
        if results[1].error is None:
            assert type(found["20001"][names.amount]) is Decimal
            assert found["20001"][names.amount] == Decimal(amount)
        else:
            assert isinstance(results[1].error, Reject)
            assert set(found) == {"20000"}

    # --- failure

    def test_nobody_there_is_never_an_empty_result(self, counterpart: Counterpart) -> None:
        """Where nobody answers, everything says that the system is unavailable."""
        gone, facts, resource = counterpart.gone, counterpart.facts, counterpart.resource
        if gone is None:
            pytest.skip("has no address where nobody answers")

        async def work() -> None:
            async with counterpart.opened(gone) as connector:
                with pytest.raises(Unavailable):
                    await connector.check()
                with pytest.raises(Unavailable):
                    [page async for page in connector.read(resource)]
                if facts.keys:
                    with pytest.raises(Unavailable):
                        [ids async for ids in connector.keys(resource)]
                if facts.lookup:
                    with pytest.raises(Unavailable):
                        await connector.lookup(resource, ["1"])
                if facts.writes:
                    results = await connector.write(resource, [_change(counterpart.order("1"))] * 2)
                    assert [type(result.error) for result in results] == [Unavailable] * 2
                if facts.transactional:
                    with pytest.raises(Unavailable):
                        async with connector.transaction() as transaction:
                            await transaction.fence("leg", {0: 1})

        asyncio.run(work())

    def test_check_reaches_the_system(self, counterpart: Counterpart) -> None:
        """`check` says nothing where all is well."""

        async def work() -> None:
            async with counterpart.opened() as connector:
                await connector.check()

        asyncio.run(work())

    def test_claims_go_together(self, counterpart: Counterpart) -> None:
        """No capability is claimed that needs another one which is not."""
        facts = counterpart.facts
        assert facts.incremental or not facts.ordered
        assert facts.writes or not (facts.deletes or facts.upsert or facts.transactional)
        assert facts.bulk >= 1

    # --- transactions

    def test_a_transaction_commits_all_of_it(self, counterpart: Counterpart) -> None:
        """Rows, held rows and the leg's state are there together after the commit."""
        _needs(counterpart.facts.transactional, "has transactions")
        row, state = _held("20000"), LegState(7, 3, 5, {"done": 2}, made=1_800_000_000_000_000)

        async def work() -> tuple[list[HeldRow], dict[int, LegState]]:
            async with counterpart.opened() as connector:
                async with connector.transaction() as transaction:
                    await transaction.fence("leg", {0: 5})
                    await transaction.write(counterpart.resource, [_change(counterpart.order("20000"))])
                    await transaction.keep("Order", [row])
                    await transaction.move("leg", {0: state})
                async with connector.transaction() as transaction:
                    return await transaction.held("Order", ["20000"]), await transaction.fence("leg", {0: 5})

        assert asyncio.run(work()) == ([row], {0: state})
        assert set(counterpart.rows()) == {"20000"}

    def test_a_transaction_that_fails_leaves_nothing(self, counterpart: Counterpart) -> None:
        """After an error inside, rows, held rows and fence are as they were, and nothing is locked."""
        _needs(counterpart.facts.transactional, "has transactions")

        async def work() -> tuple[list[HeldRow], dict[int, LegState]]:
            async with counterpart.opened() as connector:
                with pytest.raises(ZeroDivisionError):
                    async with connector.transaction() as transaction:
                        await transaction.fence("leg", {0: 9})
                        await transaction.write(counterpart.resource, [_change(counterpart.order("20000"))])
                        await transaction.keep("Order", [_held("20000")])
                        await transaction.move("leg", {0: LegState(7, 3, 9, {"done": 2})})
                        raise ZeroDivisionError
                async with counterpart.opened() as other, other.transaction() as transaction:
                    return await transaction.held("Order", ["20000"]), await transaction.fence("leg", {0: 1})

        assert asyncio.run(work()) == ([], {0: LegState()})
        assert counterpart.rows() == {}

    def test_a_cancelled_transaction_leaves_nothing(self, counterpart: Counterpart) -> None:
        """A worker that is cancelled inside leaves no row and no lock behind."""
        _needs(counterpart.facts.transactional, "has transactions")

        async def work() -> dict[int, LegState]:
            async with counterpart.opened() as connector:
                inside = asyncio.Event()

                async def cancelled() -> None:
                    async with connector.transaction() as transaction:
                        await transaction.fence("leg", {0: 9})
                        await transaction.write(counterpart.resource, [_change(counterpart.order("20000"))])
                        inside.set()
                        await asyncio.sleep(3600)

                task = asyncio.create_task(cancelled())
                await inside.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                async with counterpart.opened() as other, other.transaction() as transaction:
                    states = await transaction.fence("leg", {0: 1})
                async with connector.transaction() as transaction:
                    return states | await transaction.fence("leg", {1: 1})

        assert asyncio.run(work()) == {0: LegState(), 1: LegState()}
        assert counterpart.rows() == {}

    def test_nobody_sees_a_transaction_before_its_commit(self, counterpart: Counterpart) -> None:
        """What is written inside is not read outside, until it is committed."""
        _needs(counterpart.facts.transactional, "has transactions")

        async def work() -> tuple[list[str], list[str]]:
            async with counterpart.opened() as connector, counterpart.opened() as other:
                async with connector.transaction() as transaction:
                    await transaction.fence("leg", {0: 1})
                    await transaction.write(counterpart.resource, [_change(counterpart.order("20000"))])
                    before = [id async for page in other.read(counterpart.resource) for id in page.ids]
                return before, [id async for page in other.read(counterpart.resource) for id in page.ids]

        assert asyncio.run(work()) == ([], ["20000"])

    def test_a_bad_change_fails_alone_in_a_transaction(self, counterpart: Counterpart) -> None:
        """The others of its transaction are committed, the held rows too."""
        _needs(counterpart.facts.transactional, "has transactions")
        spoil = _spoiler(counterpart)
        orders = counterpart.orders(20)
        orders[4], orders[11] = spoil(orders[4]), spoil(orders[11])

        async def work() -> tuple[list[Result], list[HeldRow]]:
            async with counterpart.opened() as connector:
                async with connector.transaction() as transaction:
                    await transaction.fence("leg", {0: 1})
                    results = await transaction.write(counterpart.resource, [_change(order) for order in orders])
                    await transaction.keep("Order", [_held("10000")])
                async with connector.transaction() as transaction:
                    return results, await transaction.held("Order", ["10000"])

        results, held = asyncio.run(work())
        assert [number for number, result in enumerate(results) if result.error is not None] == [4, 11]
        assert len(counterpart.rows()) == 18
        assert len(held) == 1

    def test_the_fence_refuses_a_lower_token(self, counterpart: Counterpart) -> None:
        """Who comes with a token that was overtaken is fenced, on any of its partitions, and writes nothing."""
        _needs(counterpart.facts.transactional, "has transactions")

        async def fenced(connector: Connector, leg: str, tokens: dict[int, int]) -> bool:
            try:
                async with connector.transaction() as transaction:
                    await transaction.fence(leg, tokens)
                    await transaction.write(
                        counterpart.resource, [_change(counterpart.order(f"2000{sum(tokens.values())}"))]
                    )
            except Fenced:
                return True
            return False

        async def work() -> None:
            async with counterpart.opened() as connector:
                assert not await fenced(connector, "leg", {0: 5, 1: 3})
                assert not await fenced(connector, "leg", {0: 5})
                assert await fenced(connector, "leg", {0: 4})
                assert await fenced(connector, "leg", {0: 6, 1: 2})
                assert not await fenced(connector, "leg", {0: 5, 1: 4})
                assert not await fenced(connector, "another leg", {0: 1})
                async with connector.transaction() as transaction:
                    await transaction.fence("leg", {0: 8})
                    await transaction.move("leg", {0: LegState(position=1, token=2)})
                assert await fenced(connector, "leg", {0: 7})

        asyncio.run(work())
        assert set(counterpart.rows()) == {"20008", "20005", "20009", "20001"}

    def test_the_fence_tells_whose_token_it_was(self, counterpart: Counterpart) -> None:
        """A row is given as it was found: a new one with nothing, another's with the token that it was left with."""
        _needs(counterpart.facts.transactional, "has transactions")

        async def work() -> list[int]:
            found: list[int] = []
            async with counterpart.opened() as connector:
                for token in (5, 5, 8):
                    async with connector.transaction() as transaction:
                        states = await transaction.fence("leg", {0: token})
                        found.append(states[0].token)
            return found

        assert asyncio.run(work()) == [0, 5, 5]

    def test_a_second_worker_waits_at_the_fence(self, counterpart: Counterpart) -> None:
        """Two workers of one leg go one after the other, and the second sees what the first did."""
        _needs(counterpart.facts.transactional, "has transactions")

        async def work() -> list[Any]:
            events: list[Any] = []
            async with counterpart.opened() as connector, counterpart.opened() as other:
                async with other.transaction() as transaction:
                    await transaction.fence("leg", {0: 1})
                entered = asyncio.Event()

                async def first() -> None:
                    async with connector.transaction() as transaction:
                        await transaction.fence("leg", {0: 1})
                        entered.set()
                        await asyncio.sleep(0.2)
                        await transaction.move("leg", {0: LegState(position=9, token=1)})
                        events.append("first is done")

                async def second() -> None:
                    await entered.wait()
                    async with other.transaction() as transaction:
                        states = await transaction.fence("leg", {0: 2})
                        events.append(states[0].position)

                await asyncio.gather(first(), second())
            return events

        assert asyncio.run(work()) == ["first is done", 9]

    def test_held_is_kept_per_source(self, counterpart: Counterpart) -> None:
        """A key has a held row for each source that writes it, each with its own version and digest."""
        _needs(counterpart.facts.transactional, "has transactions")
        shop, erp = _held("A", "shop.product", 1), _held("A", "erp.product", 5)
        newer = _held("A", "shop.product", 2)
        deleted = HeldRow("B", "shop.product", Version(2, 1, 3), b"b" * 16, deleted=True)

        async def work() -> list[list[HeldRow]]:
            async with counterpart.opened() as connector:
                async with connector.transaction() as transaction:
                    await transaction.keep("Product", [shop, erp, deleted])
                    await transaction.keep("Order", [_held("A", "shop.order", 7)])
                async with connector.transaction() as transaction:
                    first = await transaction.held("Product", ["A", "B", "C"])
                    await transaction.keep("Product", [newer])
                async with connector.transaction() as transaction:
                    return [first, await transaction.held("Product", ["A"]), await transaction.held("Product", [])]

        first, second, nothing = asyncio.run(work())
        assert sorted(first, key=_by_key) == sorted([shop, erp, deleted], key=_by_key)
        assert sorted(second, key=_by_key) == sorted([newer, erp], key=_by_key)
        assert nothing == []

    def test_held_keeps_every_field_of_any_key(self, counterpart: Counterpart) -> None:
        """Held rows come back field by field, for keys of any text and in any number."""
        _needs(counterpart.facts.transactional, "has transactions")
        rows = [_held(f"{number}", version=number) for number in range(counterpart.many)]
        rows += [_held(text, version=1) for kind, text in TEXTS.items() if text and not kind.startswith("huge")]
        rows.append(
            HeldRow(
                *("claimed", "s", Version(1, 2, 3), b"\0" * 16, b"\xff" * 16, "id/\\1", 'W/"7"', False, 2),
                *(b"\n" * 16, 1763712345.678901, Version(4, 5, 6)),
            )
        )

        async def work() -> list[HeldRow]:
            async with counterpart.opened() as connector:
                async with connector.transaction() as transaction:
                    await transaction.keep("Order", rows)
                async with connector.transaction() as transaction:
                    return await transaction.held("Order", [row.key for row in rows])

        assert sorted(asyncio.run(work()), key=_by_key) == sorted(rows, key=_by_key)

    def test_reading_goes_on_beside_a_transaction(self, counterpart: Counterpart) -> None:
        """A connector reads and looks up while one of its own transactions is open."""
        _needs(counterpart.facts.transactional and counterpart.facts.lookup, "has transactions and looks up")
        _put(counterpart, 3)

        async def work() -> int:
            async with counterpart.opened() as connector, connector.transaction() as transaction:
                await transaction.fence("leg", {0: 1})
                await transaction.write(counterpart.resource, [_change(counterpart.order("20000"))])
                found = await connector.lookup(counterpart.resource, ["10000", "10001"])
                pages = [page async for page in connector.read(counterpart.resource)]
                return len(_ids(pages)) + sum(record is not None for record in found)

        assert asyncio.run(asyncio.wait_for(work(), 20)) == 5


def _needs(fact: bool, claim: str) -> None:
    if not fact:
        pytest.skip(f"the resource does not claim that it {claim}")


def _spoiler(counterpart: Counterpart) -> Callable[[Record], Record]:
    if counterpart.spoil is None:
        pytest.skip("the system refuses nothing")
    _needs(counterpart.facts.writes, "writes")
    return counterpart.spoil


def _put(counterpart: Counterpart, count: int) -> dict[str, Record]:
    orders = counterpart.orders(count)
    for order in orders:
        counterpart.put(order)
    return {order[counterpart.names.id]: order for order in orders}


def _change(record: Record, key: str | None = None) -> Change:
    return Change(key or str(next(iter(record.values()))), b"m" * 16, record)


def _held(key: str, source: str = "shop.order", version: int = 1) -> HeldRow:
    digest = version.to_bytes(16, "big")
    return HeldRow(key, source, Version(1, version), b"\0\n\\" + digest[3:], digest, f"id {version}", None)


def _by_key(row: HeldRow) -> tuple[str, str]:
    return row.key, row.source


def _run(counterpart: Counterpart, work: Callable[[Connector], Coroutine[Any, Any, T]]) -> T:
    async def inside() -> T:
        async with counterpart.opened() as connector:
            return await work(connector)

    return asyncio.run(inside())


def _read(counterpart: Counterpart, since: Checkpoint = None, overlap: float = 0.0) -> list[Page]:
    _needs(counterpart.facts.reads, "reads")
    scope = {"overlap": overlap} if overlap else None

    async def work(connector: Connector) -> list[Page]:
        return [page async for page in connector.read(counterpart.resource, since, scope)]

    return _run(counterpart, work)


def _keys(counterpart: Counterpart) -> list[str]:
    async def work(connector: Connector) -> list[str]:
        return [id async for ids in connector.keys(counterpart.resource) for id in ids]

    return _run(counterpart, work)


def _lookup(counterpart: Counterpart, ids: list[str], by: str | None = None) -> list[Record | None]:
    return _run(counterpart, lambda connector: connector.lookup(counterpart.resource, ids, by))


def _write(counterpart: Counterpart, *changes: Change) -> list[Result]:
    return _run(counterpart, lambda connector: connector.write(counterpart.resource, changes))


def _ids(pages: list[Page]) -> list[str]:
    return [id for page in pages for id in page.ids]


def _records(pages: list[Page]) -> dict[str, Record]:
    return {id: record for page in pages for id, record in zip(page.ids, page.records, strict=True)}


def _last_of(pages: list[Page], otherwise: Checkpoint) -> Checkpoint:
    given = [page.checkpoint for page in pages if page.checkpoint is not None]
    return given[-1] if given else otherwise


def _last_checkpoint(counterpart: Counterpart) -> Checkpoint:
    return _last_of(_read(counterpart), None)


def _assert_holds(found: Record, wanted: Record, names: Names) -> None:
    """Every field that was wanted is there, equal; a system may have more of its own."""
    for name, value in wanted.items():
        if name == names.lines:
            lines = found[name]
            assert len(lines) == len(value), (found, wanted)
            for line, expected in zip(lines, value, strict=True):
                assert {field: line[field] for field in expected} == expected
        else:
            assert found[name] == value
