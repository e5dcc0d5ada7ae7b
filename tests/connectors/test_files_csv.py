"""Reading CSV: what is a row is read, what is none is named by its line, and neither disturbs the other."""

import csv
import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.connectors.files_exchange import bad, opened, pages, put, records, run

from tieline.connectors.files import Csv
from tieline.errors import ConfigurationError, Hold

ORDERS = Csv("orders.csv", id="number")


def read(folder, content, settings=ORDERS):
    put(folder / settings.path, content)
    return pages(opened(folder, orders=settings))


def places(found):
    return {one.place: str(one.error) for one in bad(found)}


def test_rows_are_records_by_the_names_in_the_header(tmp_path):
    """Every value is text: what it means is the mapping's to say."""
    found = read(tmp_path, "number,name,total\n1,Ada,1.50\n02,Bob,\n")
    assert records(found) == {
        "1": {"number": "1", "name": "Ada", "total": "1.50"},
        "02": {"number": "02", "name": "Bob", "total": ""},
    }
    assert bad(found) == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("final", [True, False])
def test_every_line_end_will_do(tmp_path, end, final):
    """Also none at the end of the file."""
    content = end.join(["number,name", "1,Ada", '2,"Bob\nBill"', "", "3,Cid"]) + (end if final else "")
    found = read(tmp_path, content)
    assert {one: row["name"] for one, row in records(found).items()} == {"1": "Ada", "2": "Bob\nBill", "3": "Cid"}
    assert bad(found) == []


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-8", "utf-8"),
        ("utf-8", "utf-8-sig"),
        ("UTF8", "utf-8-sig"),
        ("utf-8-sig", "utf-8-sig"),
        ("cp1252", "cp1252"),
        ("latin-1", "latin-1"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-32", "utf-32"),
    ],
)
def test_text_is_read_in_its_encoding(tmp_path, encoding, written):
    """With or without the mark that some programs put before it."""
    found = read(tmp_path, "number,name\n1,Zoë\n".encode(written), Csv("orders.csv", id="number", encoding=encoding))
    assert records(found) == {"1": {"number": "1", "name": "Zoë"}}


def test_the_dialect_is_the_adapters(tmp_path):
    """Semicolons, other quotes, no header, no quotes at all."""
    assert records(
        read(tmp_path, "number;name\n1;'A;B'\n", Csv("orders.csv", id="number", delimiter=";", quote="'"))
    )["1"] == {"number": "1", "name": "A;B"}
    bare = Csv("orders.csv", id="number", header=False, columns=["number", "name"])
    assert records(read(tmp_path, "1,Ada\n", bare)) == {"1": {"number": "1", "name": "Ada"}}
    tabs = Csv("orders.csv", id="number", delimiter="\t", quote="")
    assert records(read(tmp_path, 'number\tname\n1\t"Ada\n', tabs)) == {"1": {"number": "1", "name": '"Ada'}}


def test_several_fields_may_identify_a_row(tmp_path):
    """Joined as a key is; the parts cannot run together."""
    found = read(tmp_path, "site,number\nA,1/2\nA/1,2\n", Csv("orders.csv", id=["site", "number"]))
    assert list(records(found)) == ["A/1\\/2", "A\\/1/2"]


def test_a_bad_row_is_named_and_the_rest_is_read(tmp_path):
    """Too short, too long, without an id: each by its line, with what stood there and what to do."""
    found = read(tmp_path, "number,name,total\n1,Ada,1\n2,Bob\n3,Cid,3,4\n,Dan,4\n5,Eve,5\n")
    assert list(records(found)) == ["1", "5"]
    short, long, nameless = bad(found)
    assert (short.place, short.id, short.raw) == ("orders.csv:3", "2", "2,Bob")
    assert "orders.csv:3: has 2 of 3 fields → look for a missing or unquoted delimiter" in str(short.error)
    assert (long.place, long.id) == ("orders.csv:4", "3")
    assert (nameless.place, nameless.id) == ("orders.csv:5", "orders.csv:5")
    assert "fill in number" in str(nameless.error)


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    """Also behind rows of several lines and behind empty lines."""
    found = read(tmp_path, 'number,name\n1,"a\nb\r\nc"\n\n2,"x"\n3\n4,"d\n\ne"\n5\n')
    assert list(records(found)) == ["1", "2", "4"]
    assert list(places(found)) == ["orders.csv:7", "orders.csv:11"]


@pytest.mark.parametrize(
    "broken",
    ['2,"Bob', '2,"Bob,x', '"2,Bob', '2,"B"ob', '2,"Bob"x,', '2,"a,b","c'],
)
@pytest.mark.parametrize("after", [0, 1, 3, 3000])
@pytest.mark.parametrize("quoted", [True, False])
def test_a_quote_gone_wrong_spoils_its_own_line(tmp_path, broken, after, quoted):
    """An unterminated quote does not swallow the rows behind it, quoted or not."""
    rows = [f'{number},"Ann"' if quoted else f"{number},Ann" for number in range(10, 10 + after)]
    found = read(tmp_path, "\n".join(["number,name", "1,Ada", broken, *rows]) + "\n")
    assert list(records(found)) == ["1", *(str(number) for number in range(10, 10 + after))]
    assert list(places(found)) == ["orders.csv:3"]
    assert bad(found)[0].raw == broken


def test_many_quotes_gone_wrong_are_each_named(tmp_path):
    """And none of the good rows between them is lost."""
    lines = [f'{n},"open' if n % 10 == 0 else f"{n},ok" for n in range(1, 5001)]
    found = read(tmp_path, "\n".join(["number,name", *lines]))
    assert len(records(found)) == 4500
    assert list(places(found)) == [f"orders.csv:{n + 1}" for n in range(10, 5001, 10)]


@pytest.mark.parametrize(
    ("broken", "byte", "seen"), [(b"2,Zo\xeb", 5, "0xeb"), (b"2,\xff\xfe", 3, "0xff"), (b"\xc3,x", 1, "0xc3")]
)
def test_a_broken_character_spoils_its_own_row(tmp_path, broken, byte, seen):
    """The message names line, byte and encoding."""
    found = read(tmp_path, b"number,name\n1,Zo\xc3\xab\n" + broken + b"\n3,Cid\n")
    assert {one: row["name"] for one, row in records(found).items()} == {"1": "Zoë", "3": "Cid"}
    assert f"orders.csv:3: byte {byte} is {seen}, which is not utf-8" in places(found)["orders.csv:3"]
    assert 'encoding="cp1252"' in places(found)["orders.csv:3"]


@pytest.mark.parametrize("shift", range(4))
def test_a_character_cut_in_two_by_a_block_is_whole(tmp_path, shift):
    """Files are looked at in blocks; a character may begin in one and end in the next."""
    start = "number,name\n" + "".join(f"{number},{'x' * 1000}\n" for number in range(1000))
    filler = "y" * ((1 << 20) - len(start) - len("w,") - shift)
    found = read(tmp_path, f"{start}w,{filler}€\nz,Zoë\n")
    assert places(found) == {}
    assert records(found)["w"]["name"] == f"{filler}€"
    assert records(found)["z"]["name"] == "Zoë"


def test_a_character_cut_off_at_the_end_is_broken(tmp_path):
    """A copy that was not finished."""
    found = read(tmp_path, b"number,name\n1,Ada\n2,Zo\xc3")
    assert list(records(found)) == ["1"]
    assert list(places(found)) == ["orders.csv:3"]


def test_a_nul_spoils_its_own_row(tmp_path):
    """No ledger keeps it, and no CSV means it."""
    found = read(tmp_path, b"number,name\n1,A\0da\n2,Bob\n")
    assert list(records(found)) == ["2"]
    assert "orders.csv:2: holds a NUL character" in places(found)["orders.csv:2"]
    assert bad(found)[0].raw == "1,A\\x00da"


def test_the_second_row_of_an_id_is_named_with_the_first(tmp_path):
    """Taking both would make the value change back and forth at every read."""
    lines = ["number,name", *(f"{number},x" for number in range(6000)), "17,y", "17,z", "x,1", "x,2"]
    found = read(tmp_path, "\n".join(lines))
    assert len(records(found)) == 6001
    assert records(found)["17"]["name"] == "x"
    assert "'17' stands in orders.csv:19 already → keep one of the two" in places(found)["orders.csv:6002"]
    assert "'17' stands in orders.csv:19 already" in places(found)["orders.csv:6003"]
    assert "'x' stands in orders.csv:6004 already" in places(found)["orders.csv:6005"]
    assert {one.id for one in bad(found)} == {one.place for one in bad(found)}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "orders.csv:1: is empty: there is no header → write the names of the fields in line 1"),
        ("\n\n", "orders.csv:2: is empty: there is no header"),
        ("name,total\n1,2\n", "orders.csv:1: there is no field 'number' in the header → it has: name, total"),
        ("number;name\n1;2\n", "there is no field 'number' in the header → say delimiter=';'"),
        ("number\tname\n", r"say delimiter='\t'"),
        ("number,name,name\n", "orders.csv:1: the header has 'name' twice → give each field its own name"),
        ("number,,name\n", "orders.csv:1: field 2 of the header has no name"),
        ('number,"name\n1,2\n', "orders.csv:1: the header cannot be read"),
        (b"number,na\0me\n", "orders.csv:1: the header holds a NUL character"),
        (b"number,na\xffme\n", "orders.csv:1: the header byte 10 is 0xff"),
        ("number,name\n1,Ada\n".encode("utf-16"), 'orders.csv: is utf-16, not utf-8 → say encoding="utf-16"'),
        ("number,name\n1,Ada\n".encode("utf-32"), 'orders.csv: is utf-32, not utf-8 → say encoding="utf-32"'),
        (b"PK\x03\x04\x14\x00", "orders.csv: is a ZIP archive, or an Excel workbook, not utf-8 → export it as text"),
        (b"\x1f\x8b\x08", "orders.csv: is a gzip archive"),
        (b"number,name\n1," + b"x" * 4_000_001, "orders.csv: has a line of more than 4,000,000 bytes"),
        ("number,name\n" + "1\n" * 1001, "more than 1000 rows cannot be read; the last: has 1 of 2 fields"),
    ],
)
def test_a_file_that_cannot_be_read_holds_the_source(tmp_path, content, complaint):
    """Its rows must not look deleted; the message says where to look and what to do."""
    with pytest.raises(Hold) as caught:
        read(tmp_path, content)
    assert complaint in str(caught.value)


def test_a_broken_character_in_a_wide_encoding_holds_the_source(tmp_path):
    """Nothing behind it can be trusted."""
    with pytest.raises(Hold, match=r"orders\.csv: is not utf-16"):
        read(
            tmp_path,
            "number\n1\n".encode("utf-16") + b"\x00\xd8\x00",
            Csv("orders.csv", id="number", encoding="utf-16"),
        )


def test_a_field_without_end_spoils_its_own_line(tmp_path):
    """The parser's limit for one field is not the file's end."""
    found = read(tmp_path, "number,name\n1," + "x" * 200_000 + "\n2,Bob\n")
    assert list(records(found)) == ["2"]
    assert list(places(found)) == ["orders.csv:2"]
    assert len(bad(found)[0].raw) < 600


values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@given(st.lists(st.tuples(values, values), max_size=30), st.sampled_from(["\n", "\r\n"]), st.sampled_from(",;\t|"))
def test_whatever_a_csv_writer_writes_is_read(tmp_path_factory, rows, end, delimiter):
    """Delimiters, quotes, line ends and emptiness inside values included."""
    text = io.StringIO(newline="")
    # With "\n" alone as its line end, Python's writer leaves a "\r" unquoted, which then ends a line.
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL
    writer = csv.writer(text, lineterminator=end, delimiter=delimiter, quoting=quoting)
    writer.writerow(["number", "a", "b"])
    writer.writerows([number, *row] for number, row in enumerate(rows, 1))
    found = read(tmp_path_factory.mktemp("csv"), text.getvalue(), Csv("orders.csv", id="number", delimiter=delimiter))
    assert [(row["a"], row["b"]) for row in records(found).values()] == rows
    assert bad(found) == []


damages = st.tuples(
    st.integers(0, 30), st.integers(0, 1), st.sampled_from(['"', ",", "", "\udcff", "\0", '""', "\r"])
)


@given(st.integers(1, 30), st.integers(0, 29), damages)
def test_whatever_is_done_to_a_line_the_others_are_read(tmp_path_factory, count, which, damage):
    """A quote, a comma, a wrong byte, a cut: at any place of any line, and no other row is lost or changed."""
    at, cut, inserted = damage
    rows = [[str(number), f"n {number}", str(number * 2)] for number in range(100, 100 + count)]
    lines = [f'{number},"{name}",{total}' for number, name, total in rows]
    which %= count
    lines[which] = lines[which][:at] + inserted + lines[which][at + cut :]
    text = "\n".join(["number,name,total", *lines]) + "\n"
    found = read(tmp_path_factory.mktemp("csv"), text.encode(errors="surrogateescape"))
    others = [row for index, row in enumerate(rows) if index != which]
    assert [row for row in map(list, map(dict.values, records(found).values())) if row in others] == others
    assert len(records(found)) + len(bad(found)) <= count + inserted.count("\r")
    assert all(len(row) == 3 for row in records(found).values())


def test_a_long_file_is_read_a_page_at_a_time(tmp_path):
    """At most 2,000 rows a page, and the memory of a few pages, however long the file is."""
    put(tmp_path / "orders.csv", "number,name\n" + "".join(f"{n},name of {n}\n" for n in range(120_000)))
    connector = opened(tmp_path, orders=ORDERS)
    sizes = []

    async def read_all():
        async for page in connector.read("orders"):
            sizes.append(len(page.ids))

    tracemalloc.start()
    run(read_all())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(sizes) == 120_000
    assert max(sizes) == 2000
    assert len(sizes) <= 62
    assert peak < 40_000_000


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (Csv("../orders.csv", id="a"), "leaves the system's folder"),
        (Csv("/etc/passwd", id="a"), "leaves the system's folder"),
        (Csv("a/../../b.csv", id="a"), "leaves the system's folder"),
        (Csv("", id="a"), "leaves the system's folder"),
        (Csv("*/orders.csv", id="a"), "has a wildcard in a folder"),
        (Csv("orders.csv"), "need to know what identifies a row"),
        (Csv("orders.csv", id="a", encoding="utf-9"), "there is no encoding 'utf-9'"),
        (Csv("orders.csv", id="a", delimiter=";;"), "';;' cannot separate values"),
        (Csv("orders.csv", id="a", delimiter='"'), "cannot separate values"),
        (Csv("orders.csv", id="a", quote="ab"), "'ab' cannot quote values"),
        (Csv("orders.csv", id="a", header=False), "need names for their fields"),
        (Csv("orders.csv", id="a", columns=["a", "a"]), "two columns have the same name"),
        (Csv("orders.csv", id="a", columns=["b"]), "the id 'a' is no column"),
        (Csv("orders.csv", id="a", newline="x"), "is no line end"),
        (Csv("orders.csv", mode="batches"), "leaves no place for a name"),
        (Csv("orders.csv", id="a", operation="op"), "operation= belongs to batches"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, settings, complaint):
    """When the connector is opened, by system and resource, with what to write instead."""
    with pytest.raises(ConfigurationError) as caught:
        opened(tmp_path, orders=settings)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("exchange.orders: ")
    assert "→" in str(caught.value)


def test_all_mistakes_come_at_once(tmp_path):
    """Of the url and of every resource."""
    with pytest.raises(ConfigurationError) as caught:
        opened(tmp_path, a=Csv("../x", quote="ab"), b=Csv("*", mode="batches", encoding="no"))
    assert len(caught.value.mistakes) == 4
