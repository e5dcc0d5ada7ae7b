"""What sources have shown: by record, by key, living or gone, swept, of any text and in any number."""

from functools import partial

import msgspec
import pytest

from tieline.ledger import SeenRow, SourceState, Stores
from tieline.message import Version
from tieline.testing.ledger.bench import Bench, Suite
from tieline.testing.ledger.samples import HOSTILE, seen

SHOP = "shop.order"


class SeenKept(Suite):
    """What `Stores.seen` and `Stores.sources` promise."""

    def test_a_source_begins_at_nought(self, bench: Bench) -> None:
        """A source nobody has read yet has the first epoch and no cursor."""
        assert bench(lambda stores: stores.sources.get(SHOP)) == SourceState()
        assert bench(lambda stores: stores.sources.all()) == {}

    def test_a_source_s_state_is_kept_whole(self, bench: Bench) -> None:
        """Counters, times and whatever JSON a connector has for a cursor."""
        state = SourceState(
            epoch=2,
            counter=2**40,
            sequence=9,
            cursor={"since": "2026-11-01T00:00:00Z", "page": [1, None, 2.5, "\0\ud800"]},
            mapping=4,
            read_at=1.25,
            swept_at=2.5,
            failure="a page was \0 cut off",
        )
        bench(lambda stores: stores.sources.put(SHOP, state))
        bench(lambda stores: stores.sources.put("erp.order", SourceState(counter=1)))
        found = bench(lambda stores: stores.sources.get(SHOP))
        assert found.cursor == state.cursor
        assert (found.epoch, found.counter, found.sequence, found.mapping) == (2, 2**40, 9, 4)
        assert (found.read_at, found.swept_at) == (1.25, 2.5)
        assert found.failure.startswith("a page was")
        assert bench(lambda stores: stores.sources.all()).keys() == {SHOP, "erp.order"}

    def test_a_row_is_found_by_key_and_by_record(self, bench: Bench) -> None:
        """Every field comes back as it was put."""
        rows = [seen("a", "1"), seen("b", "2", 2, gone=True), seen("c", "3", 3)]
        bench(lambda stores: stores.seen.put(SHOP, rows))
        assert bench(lambda stores: stores.seen.by_key(SHOP, ["c"])) == rows[2:]
        assert bench(lambda stores: stores.seen.by_record(SHOP, ["2"])) == rows[1:2]
        assert _sorted(bench(lambda stores: stores.seen.by_key(SHOP, ["a", "b", "nobody", "a"]))) == rows[:2]

    def test_one_record_may_give_several_keys(self, bench: Bench) -> None:
        """All of them are found by the record."""
        rows = [seen("a/1", "r"), seen("a/2", "r", 2)]
        bench(lambda stores: stores.seen.put(SHOP, rows))
        assert _sorted(bench(lambda stores: stores.seen.by_record(SHOP, ["r"]))) == rows

    def test_putting_a_key_again_replaces_it(self, bench: Bench) -> None:
        """A key has one row in a source, also when another record gives it by now."""
        bench(lambda stores: stores.seen.put(SHOP, [seen("a", "1")]))
        bench(lambda stores: stores.seen.put(SHOP, [seen("a", "2", 5)]))
        assert bench(lambda stores: stores.seen.by_key(SHOP, ["a"])) == [seen("a", "2", 5)]
        assert bench(lambda stores: stores.seen.by_record(SHOP, ["1"])) == []

    def test_sources_do_not_mix(self, bench: Bench) -> None:
        """The same key of two sources is two things."""
        bench(lambda stores: stores.seen.put(SHOP, [seen("a")]))
        bench(lambda stores: stores.seen.put("erp.order", [seen("a", "other", 9)]))
        assert bench(lambda stores: stores.seen.by_key(SHOP, ["a"])) == [seen("a")]
        assert bench(lambda stores: stores.seen.by_key("crm.order", ["a"])) == []

    def test_nothing_asked_is_nothing_found(self, bench: Bench) -> None:
        """Empty lists are no trouble."""
        bench(lambda stores: stores.seen.put(SHOP, []))
        assert bench(lambda stores: stores.seen.by_key(SHOP, [])) == []
        assert bench(lambda stores: stores.seen.by_record(SHOP, [])) == []

    def test_a_tombstone_stays_and_does_not_count(self, bench: Bench) -> None:
        """A key that is gone keeps its row, so that its version goes on when it comes back."""
        bench(lambda stores: stores.seen.put(SHOP, [seen("a"), seen("b", gone=True)]))
        assert bench(lambda stores: stores.seen.count(SHOP)) == 1
        assert bench(lambda stores: stores.seen.count("nobody's")) == 0
        assert bench(lambda stores: stores.seen.by_key(SHOP, ["b"]))[0].gone

    @pytest.mark.parametrize("number", [1, 50, 300, 5_000])
    def test_a_batch_of_any_size_is_kept(self, bench: Bench, number: int) -> None:
        """New rows and changed ones, few or many, come back the same."""
        rows = [seen(f"key {n:05}", f"record {n}", n + 1) for n in range(number)]
        bench(lambda stores: stores.seen.put(SHOP, rows))
        changed = [seen(row.key, row.record, row.version.counter + number) for row in rows[::2]]
        bench(lambda stores: stores.seen.put(SHOP, changed))
        expected = {row.key: row for row in [*rows, *changed]}
        found = bench(lambda stores: stores.seen.by_key(SHOP, [row.key for row in rows]))
        assert {row.key: row for row in found} == expected
        by_record = bench(lambda stores: stores.seen.by_record(SHOP, [row.record for row in rows]))
        assert _sorted(by_record) == _sorted(found)

    @pytest.mark.parametrize("crowd", [0, 300])
    @pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
    def test_any_text_can_be_a_key_and_a_record(self, bench: Bench, text: str, crowd: int) -> None:
        """Whatever a system calls its records is kept and found, alone or among many."""
        row = seen(text, text[::-1] + text)
        others = [seen(f"{n}", f"{n}") for n in range(crowd)]
        bench(lambda stores: stores.seen.put(SHOP, [*others, row]))
        assert bench(lambda stores: stores.seen.by_key(SHOP, [text])) == [row]
        assert bench(lambda stores: stores.seen.by_record(SHOP, [row.record])) == [row]
        assert row in bench(lambda stores: stores.seen.living(SHOP, "", 1_000))

    def test_near_texts_are_different_keys(self, bench: Bench) -> None:
        """No text stands for another one: case, accents, spaces, ends and NUL all count."""
        long = "x" * 5_000
        keys = ["a", "A", "á", "a\u0301", "a ", " a", "a\0", "a\0b", "a\0c", f"{long}1", f"{long}2", "\x01a"]
        rows = [seen(key, counter=number + 1) for number, key in enumerate(keys)]
        bench(lambda stores: stores.seen.put(SHOP, rows))
        for row in rows:
            assert bench(partial(_by_key, key=row.key)) == [row]

    def test_a_sweep_shows_what_exists_no_more(self, bench: Bench) -> None:
        """Living rows whose record was not marked; those already gone are not told again."""
        rows = [seen("a", "1"), seen("b", "2"), seen("c", "3", gone=True), seen("d", "\0")]
        bench(lambda stores: stores.seen.put(SHOP, rows))
        bench(lambda stores: stores.seen.put("erp.order", [seen("x", "9")]))
        bench(lambda stores: stores.seen.sweep_start(SHOP))
        bench(lambda stores: stores.seen.sweep_mark(SHOP, ["1", "1", "new one"]))
        bench(lambda stores: stores.seen.sweep_mark(SHOP, ["1", "\0"]))
        assert bench(_missing) == [rows[1]]
        assert bench(lambda stores: stores.seen.sweep_count(SHOP)) == 1

    def test_a_new_sweep_forgets_the_marks_of_an_unfinished_one(self, bench: Bench) -> None:
        """What was marked before it started does not count; other sources' sweeps go on."""
        bench(lambda stores: stores.seen.put(SHOP, [seen("a", "1")]))
        bench(lambda stores: stores.seen.put("erp.order", [seen("a", "1")]))
        bench(lambda stores: stores.seen.sweep_mark(SHOP, ["1"]))
        bench(lambda stores: stores.seen.sweep_mark("erp.order", ["1"]))
        bench(lambda stores: stores.seen.sweep_start(SHOP))
        assert bench(_missing) == [seen("a", "1")]
        assert bench(partial(_missing, source="erp.order")) == []

    def test_what_a_sweep_misses_can_be_walked_through(self, bench: Bench) -> None:
        """Page by page after the last key, each row once; it may be marked, or go, as one walks."""
        rows = [seen(f"{'long ' * 200 if n % 5 == 0 else ''}{n}", f"r{n}") for n in range(50)]
        bench(lambda stores: stores.seen.put(SHOP, rows))
        bench(lambda stores: stores.seen.sweep_start(SHOP))
        bench(lambda stores: stores.seen.sweep_mark(SHOP, [f"r{n}" for n in range(0, 50, 3)]))
        walked: list[SeenRow] = []
        while page := bench(partial(_missing, after=walked[-1].key if walked else "")):
            assert len(page) <= 7
            walked += page
            gone, there = page[0], page[-1].record
            bench(partial(_put, row=msgspec.structs.replace(gone, gone=True)))
            bench(partial(_mark, record=there))
        assert _sorted(walked) == _sorted([row for n, row in enumerate(rows) if n % 3])

    def test_only_what_two_sweeps_miss_is_left_where_the_first_is_spared(self, bench: Bench) -> None:
        """Whatever was shown between, is gone, or comes from another source begins anew."""
        bench(lambda stores: stores.seen.put(SHOP, [seen(key, key) for key in "abcd"]))
        bench(lambda stores: stores.seen.put("erp.order", [seen("a", "a")]))
        assert _swept(bench, "d") == ""  # a, b and c are missed
        assert _swept(bench, "b") == "ac"  # d for the first time, a and c again
        bench(partial(_put, row=seen("a", "a", 2, gone=True)))
        assert _swept(bench, "bc") == "d"
        bench(partial(_put, row=seen("a", "a", 3)))
        assert _swept(bench, "b") == "d"  # a and c for the first time again
        assert _swept(bench, "b") == "acd"
        bench(lambda stores: stores.seen.sweep_spare("erp.order"))
        assert bench(partial(_missing, source="erp.order")) == []

    def test_all_living_rows_can_be_walked_through(self, bench: Bench) -> None:
        """Page by page after the last key, each living row comes once."""
        rows = [seen(f"{'long ' * 200 if n % 5 == 0 else ''}{n}", gone=n % 3 == 0) for n in range(100)]
        bench(lambda stores: stores.seen.put(SHOP, rows))
        walked: list[str] = []
        while page := bench(partial(_living, after=walked[-1] if walked else "")):
            assert len(page) <= 7
            walked += [row.key for row in page]
        assert sorted(walked) == sorted(row.key for row in rows if not row.gone)

    def test_tombstones_of_earlier_epochs_can_be_walked_through(self, bench: Bench) -> None:
        """Page by page after the last key; what is living, and what went in this epoch, is not among them."""
        rows = [seen(f"{n:03}", gone=n % 2 == 0, version=Version(1 + n % 3, n)) for n in range(60)]
        bench(lambda stores: stores.seen.put(SHOP, rows))
        bench(lambda stores: stores.seen.put("erp.order", [seen("a", gone=True)]))
        walked: list[SeenRow] = []
        while page := bench(partial(_gone, after=walked[-1].key if walked else "")):
            assert len(page) <= 7
            walked += page
        assert walked == [row for row in rows if row.gone and row.version.epoch < 3]


def _gone(stores: Stores, after: str) -> list[SeenRow]:
    return stores.seen.gone(SHOP, 3, after, 7)


def _missing(stores: Stores, after: str = "", source: str = SHOP) -> list[SeenRow]:
    return stores.seen.sweep_missing(source, after, 7)


def _put(stores: Stores, row: SeenRow) -> None:
    stores.seen.put(SHOP, [row])


def _mark(stores: Stores, record: str) -> None:
    stores.seen.sweep_mark(SHOP, [record])


def _swept(bench: Bench, shown: str) -> str:
    """The keys that are left of a sweep which shows these records."""

    def sweep(stores: Stores) -> str:
        stores.seen.sweep_start(SHOP)
        stores.seen.sweep_mark(SHOP, list(shown))
        stores.seen.sweep_spare(SHOP)
        return "".join(row.key for row in _missing(stores))

    return bench(sweep)


def _by_key(stores: Stores, key: str) -> list[SeenRow]:
    return stores.seen.by_key(SHOP, [key])


def _living(stores: Stores, after: str) -> list[SeenRow]:
    return stores.seen.living(SHOP, after, 7)


def _sorted(rows: list[SeenRow]) -> list[SeenRow]:
    return sorted(rows, key=lambda row: row.key)
