"""JSON-RPC against a real Tryton: reading what changed, writing in batches, steps, and cut-off calls."""

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.connectors.demo_systems import named_or_started
from tests.connectors.rest_server import Cutting
from tests.demo.erp import Erp
from yarl import URL

from tieline.connector import Change, Page, Result
from tieline.connectors.jsonrpc import Child, Find, JsonRpc, JsonRpcConnector, Model
from tieline.demo.systems import Tryton
from tieline.errors import AccessRefused, ConfigurationError, Hold, InDoubt, Reject, Unavailable
from tieline.settings import Secret, SystemSettings

NAME = "TIELINE_TEST_TRYTON"

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", autouse=True)
def _tryton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The Tryton that TIELINE_TEST_TRYTON names (http://user:password@127.0.0.1:28000/demo), or the demo's own."""
    with named_or_started(NAME, Tryton, tmp_path_factory.mktemp("demo")):
        yield


def address() -> URL:
    """Where the ERP answers, with its user and password."""
    return URL(os.environ[NAME])


ERP = JsonRpc(
    parties=Model(
        "party.party",
        match="code",
        fields=["name", "code", "active"],
        children={"addresses": Child("party.address", parent="party", fields=["city"], watched=True)},
    ),
    newcomers=Model("party.party", match="code", fields=["name", "addresses"], create_only=["addresses"]),
    products=Model("product.product", match="code", fields=["code", "default_uom", "template.name"], page=20),
    categories=Model("party.category", match="name", fields=["name", "parent", "parent.name"]),
    sales=Model(
        "sale.sale",
        match="reference",
        fields=["reference", "state", "party.code", "total_amount", "sale_date"],
        children={"lines": Child("sale.line", parent="sale", fields=["quantity", "unit_price", "product.code"])},
        actions=["quote", "confirm", "process", "cancel"],
        page=7,
    ),
    invoices=Model("account.invoice", match="reference", fields=["state", "number"], actions=["post"]),
    wrong=Model("party.party", fields=["nickname"]),
    unmatched=Model("party.party", fields=["name"], actions=["no_such_action"]),
)


def settings(url: URL | None = None, **more: Any) -> SystemSettings:
    there = address()
    auth = {"user": there.user or "", "password": Secret(there.password or "")} | more.pop("auth", {})
    plain = (url or there).with_user(None)
    return SystemSettings("erp", str(plain), auth, **{"timeout": 30.0} | more)


def asking(ask: Callable[[JsonRpcConnector], Any], url: URL | None = None, **more: Any) -> Any:
    async def run() -> Any:
        connector = ERP.open(settings(url, **more))
        try:
            return await ask(connector)
        finally:
            await connector.close()

    return asyncio.run(run())


async def read(
    connector: JsonRpcConnector, resource: str, since: Any = None, overlap: float = 0, **scope: Any
) -> list[Page]:
    return [page async for page in connector.read(resource, since, {"overlap": overlap, **scope})]


def ids(pages: Sequence[Page]) -> list[str]:
    return [id for page in pages for id in page.ids]


def errors(results: Sequence[Result]) -> list[type | None]:
    return [None if result.error is None else type(result.error) for result in results]


@pytest.fixture
def tag() -> str:
    return uuid.uuid4().hex[:8]


def party(tag: str, number: int = 0, **more: Any) -> Change:
    code = f"{tag}-{number}"
    return Change(code, b"", {"code": code, "name": f"Party {code}", "addresses": [{"city": "Köln"}], **more})


def sale(tag: str, number: int = 0, *, customer: str, **more: Any) -> Change:
    reference = f"{tag}-s{number}"
    address = Find("party.address", party=int(customer))
    line = {
        "type": "line",
        "product": Find("product.product", code="P-3"),
        "unit": Find("product.uom", symbol="u"),
        "quantity": Decimal(3),
        "unit_price": Decimal("199.90"),
    }
    return Change(
        reference,
        b"",
        {
            "reference": reference,
            "party": customer,
            "invoice_address": address,
            "shipment_address": address,
            "payment_term": Find("account.invoice.payment_term", name="30 days"),
            "currency": Find("currency.currency", code="EUR"),
            "lines": [line],
            **more,
        },
    )


async def customer(connector: JsonRpcConnector, tag: str) -> str:
    [made] = await connector.write("parties", [party(tag, 999)])
    assert made.error is None
    assert made.target_id is not None
    return made.target_id


# -- reading -----------------------------------------------------------------------------------------------


def test_everything_is_read_once_in_pages() -> None:
    """All products come in pages of the declared size, each once, with fields of other models."""
    there = address()
    erp = Erp(str(there.with_user(None)), there.user or "", there.password or "")
    pages = asking(lambda c: read(c, "products"))
    assert sorted(ids(pages)) == sorted(str(row["id"]) for row in erp.rows("product.product", []))
    assert len(pages) > 1
    assert max(len(page.ids) for page in pages) <= 20
    assert all(record["template.name"] for page in pages for record in page.records)
    assert not any("create_date" in record for page in pages for record in page.records)


def test_only_what_changed_is_read_again(tag: str) -> None:
    """New rows, whose date of change is empty, and changed ones are both shown; others are not."""

    async def run(connector: JsonRpcConnector) -> None:
        [old] = await connector.write("parties", [party(tag, 1)])
        before = (await read(connector, "parties"))[-1].checkpoint
        [new] = await connector.write("parties", [party(tag, 2)])
        assert set(ids(await read(connector, "parties", before))) - {old.target_id} == {new.target_id}
        later = (await read(connector, "parties", before))[-1].checkpoint
        await connector.write("parties", [Change("x", b"", {"name": "Renamed"}, old.target_id)])
        shown = await read(connector, "parties", later)
        assert old.target_id in ids(shown)
        names = {id: record["name"] for page in shown for id, record in zip(page.ids, page.records, strict=True)}
        assert names[str(old.target_id)] == "Renamed"
        last = shown[-1].checkpoint
        assert set(ids(await read(connector, "parties", last))) <= {old.target_id, new.target_id}

    asking(run)


def test_every_page_may_be_gone_on_from(tag: str) -> None:
    """From the checkpoint of any page on, all rows behind it are shown."""

    async def run(connector: JsonRpcConnector) -> None:
        who = await customer(connector, tag)
        made = await connector.write("sales", [sale(tag, n, customer=who) for n in range(30)])
        rows = [str(result.target_id) for result in made]
        assert errors(await connector.call("sales", "quote", rows[::2])) == [None] * 15
        pages = await read(connector, "sales", party=int(who))
        assert sorted(ids(pages)) == sorted(rows)
        for place in range(len(pages)):
            seen = set(ids(pages[: place + 1]))
            assert seen | set(ids(await read(connector, "sales", pages[place].checkpoint, party=int(who)))) == set(
                rows
            )

    asking(run)


def test_an_overlap_shows_rows_again(tag: str) -> None:
    """A reading that begins some seconds earlier shows what was committed late."""

    async def run(connector: JsonRpcConnector) -> None:
        [made] = await connector.write("parties", [party(tag)])
        checkpoint = (await read(connector, "parties"))[-1].checkpoint
        await asyncio.sleep(1.1)
        await connector.write("parties", [party(tag, 1)])
        newest = (await read(connector, "parties", checkpoint))[-1].checkpoint
        assert made.target_id not in ids(await read(connector, "parties", newest))
        assert made.target_id in ids(await read(connector, "parties", newest, overlap=60))

    asking(run)


def test_an_overlap_does_not_move_the_checkpoint_back(tag: str) -> None:
    """Stopped after the first page of what it shows again, a reading is where it was."""

    async def run(connector: JsonRpcConnector) -> None:
        who = await customer(connector, tag)
        made = await connector.write("sales", [sale(tag, n, customer=who) for n in range(20)])
        assert errors(made) == [None] * 20
        last = (await read(connector, "sales", party=int(who)))[-1].checkpoint
        again = await read(connector, "sales", last, overlap=3_600, party=int(who))
        assert len(ids(again)) == 20
        assert [page.checkpoint for page in again] == [last] * len(again)

    asking(run)


def test_a_change_of_a_watched_child_is_a_change(tag: str) -> None:
    """An address changed by itself brings its party, though the party's own date stays."""

    async def run(connector: JsonRpcConnector) -> None:
        [made] = await connector.write("parties", [party(tag)])
        assert made.target_id is not None
        [record] = await connector.lookup("parties", [made.target_id])
        assert record is not None
        await asyncio.sleep(1.1)
        before = (await read(connector, "parties"))[-1].checkpoint
        remote = connector._remote
        await remote.call("model.party.address.write", [record["addresses"][0]["id"]], {"city": "Bonn"})
        shown = await read(connector, "parties", before)
        changed = {id: record for page in shown for id, record in zip(page.ids, page.records, strict=True)}
        assert changed[made.target_id]["addresses"][0]["city"] == "Bonn"

    asking(run)


def test_keys_and_look_ups(tag: str) -> None:
    """Keys list every id; look-ups answer in order, with children, None where there is none."""

    async def run(connector: JsonRpcConnector) -> None:
        made = [str(r.target_id) for r in await connector.write("parties", [party(tag, n) for n in range(3)])]
        keys = [id async for page in connector.keys("parties") for id in page]
        assert set(made) <= set(keys)
        assert len(keys) == len(set(keys))
        found = await connector.lookup("parties", [made[2], "999999", "no number", made[0], made[2]])
        assert [r and r["code"] for r in found] == [f"{tag}-2", None, None, f"{tag}-0", f"{tag}-2"]
        assert found[0] is not None
        assert found[0]["addresses"][0]["city"] == "Köln"
        by_code = await connector.lookup("parties", [f"{tag}-1", "nobody"], by="code")
        assert [r and str(r["id"]) for r in by_code] == [made[1], None]

    asking(run)


def test_a_row_of_another_model_may_be_missing(tag: str) -> None:
    """A field of another model is None where that row is not set; it is not left out."""

    async def run(connector: JsonRpcConnector) -> None:
        [top] = await connector.write("categories", [Change(tag, b"", {"name": tag})])
        await connector.write("categories", [Change("y", b"", {"name": f"{tag}-y", "parent": top.target_id})])
        found = await connector.lookup("categories", [tag, f"{tag}-y"], by="name")
        assert [record and record["parent.name"] for record in found] == [None, tag]

    asking(run)


def test_a_row_that_cannot_be_read_stops_only_itself(tag: str) -> None:
    """A row on which the system itself fails is given as bad, by its id; the others are read."""

    async def run(connector: JsonRpcConnector) -> None:
        who = await customer(connector, tag)
        made = await connector.write("sales", [sale(tag, n, customer=who) for n in range(5)])
        rows = [str(result.target_id) for result in made]
        # SQLite lets a reference dangle, and then Tryton cannot read the row with its party's code.
        nobody = {"party": "99999999", "invoice_address": None, "shipment_address": None}
        broken = await connector.write("sales", [Change("k", b"", nobody, rows[2])])
        try:
            assert errors(broken) == [None]
            pages = await read(connector, "sales")
            bad = {one.id: one for page in pages for one in page.bad}
            assert list(bad) == [rows[2]]
            assert bad[rows[2]].place == f"sale.sale {rows[2]}"
            assert "99999999" in str(bad[rows[2]].error)
            assert {*rows[:2], *rows[3:]} <= set(ids(pages))
            with pytest.raises(Reject, match="99999999"):
                await connector.lookup("sales", [rows[2]])
        finally:
            assert errors(await connector.write("sales", [Change("k", b"", None, rows[2])])) == [None]

    asking(run)


def test_a_misspelt_field_holds_the_source() -> None:
    """A declared field that the model does not have is named, not read as nothing."""
    with pytest.raises(Hold, match=r"party\.party has no field nickname"):
        asking(lambda c: read(c, "wrong"))


def test_a_system_tells_what_it_has() -> None:
    """Discovery lists the models, with the fields of the declared ones."""
    found = {one.name: one for one in asking(lambda c: c.discover())}
    assert found["sale.sale"].fields["reference"] == "char"
    assert found["sale.sale"].key == ("id",)
    assert "account.move" in found


# -- writing -----------------------------------------------------------------------------------------------


def test_fifty_sales_are_created_quoted_confirmed_and_processed(tag: str) -> None:
    """A batch is a handful of calls, amounts are exact, and done twice is done once."""

    async def run(connector: JsonRpcConnector) -> None:
        who = await customer(connector, tag)
        changes = [sale(tag, n, customer=who) for n in range(50)]
        began = time.monotonic()
        made = await connector.write("sales", changes)
        created = time.monotonic()
        assert errors(made) == [None] * 50
        rows = [str(result.target_id) for result in made]
        again = await connector.write("sales", changes)
        assert [result.target_id for result in again] == rows
        stepping = time.monotonic()
        for action in ("quote", "confirm", "process"):
            assert errors(await connector.call("sales", action, rows)) == [None] * 50
        ended = time.monotonic()
        for record in await connector.lookup("sales", rows):
            assert record is not None
            assert (record["state"], record["party.code"]) == ("processing", f"{tag}-999")
            assert record["total_amount"] == Decimal("599.70")
            [line] = record["lines"]
            assert (line["unit_price"], line["quantity"], line["product.code"]) == (Decimal("199.90"), 3, "P-3")
        print(f"\n50 sales: created in {created - began:.2f} s, three steps in {ended - stepping:.2f} s")

    asking(run)


def test_one_bad_record_does_not_fail_the_others(tag: str) -> None:
    """A failing call is halved until the bad record stands alone, with the system's own words."""

    async def run(connector: JsonRpcConnector) -> None:
        who = await customer(connector, tag)
        changes = [sale(tag, n, customer=who) for n in range(12)]
        changes[4] = sale(tag, 4, customer=who, party=None)
        changes[7] = sale(tag, 7, customer=who, colour="red")
        changes[9] = sale(tag, 9, customer=who, currency=Find("currency.currency", code="XXX-none"))
        results = await connector.write("sales", changes)
        assert [place for place, result in enumerate(results) if result.error is not None] == [4, 7, 9]
        assert {type(result.error) for result in results if result.error} == {Reject}
        assert "Party" in str(results[4].error)
        assert "colour: sale.sale has no such field (got 'red')" in str(results[7].error)
        assert "currency.currency with code 'XXX-none'" in str(results[9].error)

    asking(run)


def test_what_is_found_by_name_is_found_again_when_it_was_replaced(tag: str) -> None:
    """A row that was deleted and made anew has another id: the change after the rejected one has it."""

    async def run(connector: JsonRpcConnector) -> None:
        def under(number: int) -> Change:
            parent = Find("party.category", name=tag)
            return Change(f"{number}", b"", {"name": f"{tag}-{number}", "parent": parent})

        def category(record: dict[str, Any] | None, row: str | None = None) -> Change:
            return Change("top", b"", record, row)

        [top] = await connector.write("categories", [category({"name": tag})])
        [first] = await connector.write("categories", [under(1)])
        gone = [Change("1", b"", None, first.target_id), category(None, top.target_id)]
        assert errors(await connector.write("categories", gone)) == [None, None]
        assert errors([top, first]) == [None, None]
        await connector.write("categories", [category({"name": tag})])
        [refused] = await connector.write("categories", [under(2)])
        [taken] = await connector.write("categories", [under(3)])
        assert errors([refused, taken]) == [Reject, None]

    asking(run)


def test_two_rows_for_one_reference_are_named(tag: str) -> None:
    """Where the match field finds several rows, nobody guesses."""

    async def run(connector: JsonRpcConnector) -> None:
        values = [{"name": "twin", "code": f"{tag}-{n}"} for n in range(2)]
        rows = await connector._remote.call("model.party.category.create", [{"name": tag}, {"name": f"{tag}-2"}])
        assert len(rows) == 2
        twins = await connector._remote.call("model.party.party.create", values)
        found = await connector.write("newcomers", [Change("k", b"", {"name": "x", "code": "none-" + tag})])
        assert errors(found) == [None]
        one = JsonRpc(twins=Model("party.party", match="name", fields=["name"])).open(settings())
        await connector._remote.call("model.party.party.write", twins, {"name": f"Twin {tag}"})
        try:
            [result] = await one.write("twins", [Change("k", b"", {"name": f"Twin {tag}"})])
        finally:
            await one.close()
        assert isinstance(result.error, Reject)
        assert f"rows {min(twins)} and {max(twins)} there have it" in str(result.error)

    asking(run)


def test_two_changes_of_a_batch_may_not_make_one_row_twice(tag: str) -> None:
    """Two keys with one reference: the second is refused, naming the first."""

    async def run(connector: JsonRpcConnector) -> None:
        one, other = party(tag, 1), party(tag, 1)
        other = Change("another", b"", other.record)
        results = await connector.write("parties", [one, other])
        assert errors(results) == [None, Reject]
        assert f"'{tag}-1' has the same" in str(results[1].error)

    asking(run)


def test_a_keys_changes_keep_their_order(tag: str) -> None:
    """Created, renamed, deleted, created and deleted again: one batch carries them out one after another."""

    async def run(connector: JsonRpcConnector) -> None:
        key = f"{tag}-0"
        renamed = Change(key, b"", {"code": key, "name": "Second"})
        gone = Change(key, b"", None)
        results = await connector.write("parties", [party(tag), renamed, gone, party(tag, 1), party(tag), gone])
        assert errors(results) == [None] * 6
        assert results[0].target_id == results[1].target_id == results[2].target_id
        assert results[4].target_id not in {None, results[0].target_id}
        assert await connector.lookup("parties", [key], by="code") == [None]

    asking(run)


def test_a_draft_is_replaced_and_a_processed_document_is_not(tag: str) -> None:
    """Lines are replaced while the document is a draft; afterwards its state is the reason why not."""

    async def run(connector: JsonRpcConnector) -> None:
        who = await customer(connector, tag)
        change = sale(tag, customer=who)
        [made] = await connector.write("sales", [change])
        assert change.record is not None
        line = change.record["lines"][0]
        two = {**change.record, "lines": [{**line, "quantity": Decimal("5")}, line]}
        assert errors(await connector.write("sales", [Change("k", b"", two, made.target_id)])) == [None]
        [record] = await connector.lookup("sales", [str(made.target_id)])
        assert record is not None
        assert sorted(line["quantity"] for line in record["lines"]) == [3, 5]
        assert errors(await connector.call("sales", "quote", [str(made.target_id)])) == [None]
        [refused] = await connector.write("sales", [Change("k", b"", two, made.target_id)])
        assert isinstance(refused.error, Reject)
        assert "is replaced only while state is draft (got 'quotation')" in str(refused.error)

    asking(run)


def test_known_children_are_written_in_place(tag: str) -> None:
    """Children with an id are changed, those without are made, those left out are deleted."""

    async def run(connector: JsonRpcConnector) -> None:
        [made] = await connector.write("parties", [party(tag, addresses=[{"city": "A"}, {"city": "B"}])])
        [before] = await connector.lookup("parties", [str(made.target_id)])
        assert before is not None
        kept = next(one for one in before["addresses"] if one["city"] == "A")
        wanted = {"addresses": [{"id": kept["id"], "city": "A2"}, {"city": "C"}]}
        assert errors(await connector.write("parties", [Change("k", b"", wanted, made.target_id)])) == [None]
        [after] = await connector.lookup("parties", [str(made.target_id)])
        assert after is not None
        assert {one["city"] for one in after["addresses"]} == {"A2", "C"}
        assert kept["id"] in {one["id"] for one in after["addresses"]}

    asking(run)


def test_fields_for_creation_only_are_left_alone_afterwards(tag: str) -> None:
    """What people keep there once it is made is not written over."""

    async def run(connector: JsonRpcConnector) -> None:
        first = party(tag)
        [made] = await connector.write("newcomers", [first])
        second = party(tag, addresses=[{"city": "Elsewhere"}], name="New name")
        assert errors(await connector.write("newcomers", [second])) == [None]
        [record] = await connector.lookup("parties", [str(made.target_id)])
        assert record is not None
        assert (record["name"], [one["city"] for one in record["addresses"]]) == ("New name", ["Köln"])

    asking(run)


def test_many_to_many_lists_become_what_is_given(tag: str) -> None:
    """A list of other rows' ids is added to and taken from until it is the same."""

    async def run(connector: JsonRpcConnector) -> None:
        groups = await connector.write("categories", [Change(f"{n}", b"", {"name": f"{tag}-{n}"}) for n in range(3)])
        a, b, c = (str(group.target_id) for group in groups)
        [made] = await connector.write("parties", [party(tag, categories=[a, b])])
        await connector.write("parties", [Change("k", b"", {"categories": [b, c]}, made.target_id)])
        [row] = await connector._remote.search_read(
            "party.party", [["id", "=", int(str(made.target_id))]], ["categories"]
        )
        assert {str(group) for group in row["categories"]} == {b, c}

    asking(run)


def test_deletes(tag: str) -> None:
    """A delete of what is gone is done; of what must stay it is refused with the system's reason."""

    async def run(connector: JsonRpcConnector) -> None:
        one, two = (str(r.target_id) for r in await connector.write("parties", [party(tag, 1), party(tag, 2)]))
        who = await customer(connector, tag)
        [used] = await connector.write("sales", [sale(tag, customer=who)])
        assert errors(await connector.call("sales", "quote", [str(used.target_id)])) == [None]
        gone = [Change(key, b"", None, target) for key, target in (("a", one), ("b", two), ("c", "999999"))]
        assert errors(await connector.write("parties", gone)) == [None] * 3
        assert await connector.lookup("parties", [one, two]) == [None, None]
        assert errors(await connector.write("parties", [*gone, Change("never-there", b"", None)])) == [None] * 4
        [kept] = await connector.write("sales", [Change("s", b"", None, used.target_id)])
        assert isinstance(kept.error, Reject)
        assert "delete" in str(kept.error).lower() or "cancel" in str(kept.error).lower()

    asking(run)


def test_a_row_set_aside_there_is_found_and_not_made_again(tag: str) -> None:
    """An inactive row is no reason to create its twin."""

    async def run(connector: JsonRpcConnector) -> None:
        [made] = await connector.write("parties", [party(tag, active=False)])
        [again] = await connector.write("parties", [party(tag, name="New name")])
        assert again == Result(made.target_id)

    asking(run)


def test_an_update_of_what_is_gone_is_no_success() -> None:
    """A row deleted there is named, and not taken for updated."""
    [result] = asking(lambda c: c.write("parties", [Change("k", b"", {"name": "x"}, "999999")]))
    assert "is not there any more" in str(result.error)
    [strange] = asking(lambda c: c.write("parties", [Change("k", b"", {"name": "x"}, "x7")]))
    assert isinstance(strange.error, Reject)


def test_without_a_match_nobody_guesses() -> None:
    """A delete of which only the key is known needs a match field."""
    [result] = asking(lambda c: c.write("unmatched", [Change("k", b"", None)]))
    assert "declare match" in str(result.error)


# -- steps ---------------------------------------------------------------------------------------------------


def test_a_step_that_needs_a_persons_yes_is_refused_alone(tag: str) -> None:
    """A warning for one of several documents parks that one, and the others take the step."""

    async def run(connector: JsonRpcConnector) -> None:
        who = await customer(connector, tag)
        address = Find("party.address", party=int(who))
        line = {
            "type": "line",
            "description": "work",
            "quantity": Decimal(1),
            "unit_price": Decimal(10),
            "account": Find("account.account", code="4.1.1"),
        }
        today = date.today()  # noqa: DTZ011
        changes = [
            Change(
                f"{n}",
                b"",
                {
                    "reference": f"{tag}-{n}",
                    "type": "out",
                    "party": who,
                    "invoice_address": address,
                    "journal": Find("account.journal", code="REV"),
                    "account": Find("account.account", code="1.2.1"),
                    "currency": Find("currency.currency", code="EUR"),
                    "invoice_date": today + timedelta(days=30 if n == 1 else 0),
                    "lines": [line],
                },
            )
            for n in range(3)
        ]
        made = await connector.write("invoices", changes)
        assert errors(made) == [None] * 3
        rows = [str(result.target_id) for result in made]
        results = await connector.call("invoices", "post", rows)
        assert errors(results) == [None, Reject, None]
        assert "needs a person's yes" in str(results[1].error)
        states = [record and record["state"] for record in await connector.lookup("invoices", rows)]
        assert states == ["posted", "draft", "posted"]

    asking(run)


def test_actions_that_are_not_there_are_named() -> None:
    """An undeclared action is a mistake of the project; one the system does not have is refused by name."""
    with pytest.raises(ConfigurationError, match=r"no action 'ship' \(known: quote"):
        asking(lambda c: c.call("sales", "ship", ["1"]))
    [result] = asking(lambda c: c.call("unmatched", "no_such_action", ["1"]))
    assert isinstance(result.error, AccessRefused)
    assert "party.party.no_such_action is not there, or not for" in str(result.error)


def test_a_row_named_twice_takes_its_step_once(tag: str) -> None:
    """The same row twice in a call is one row with two results."""

    async def run(connector: JsonRpcConnector) -> list[Result]:
        [made] = await connector.write("sales", [sale(tag, customer=await customer(connector, tag))])
        return await connector.call("sales", "quote", [str(made.target_id)] * 2)

    assert errors(asking(run)) == [None, None]


# -- access and outages -------------------------------------------------------------------------------------------


def test_a_session_that_ran_out_is_renewed_once_for_all() -> None:
    """Ten calls refused at the same time log in once, and all of them are answered."""

    async def counted() -> int:
        proxy = Cutting(address().port or 0, address().path)
        async with proxy as url:
            connector = ERP.open(settings(URL(url)))
            try:
                await connector.check()
                connector._remote._login.headers = {"Authorization": "Session YWRtaW46MTpub25l"}
                await asyncio.gather(*(connector.check() for _ in range(10)))
            finally:
                await connector.close()
        return sum("common.db.login" in asked for asked in proxy.seen)

    assert asyncio.run(counted()) == 2


def test_a_wrong_password_calls_the_owner_once() -> None:
    """A refused login is `AccessRefused`, tried once for all who wait, and does not say the password."""

    async def run(connector: JsonRpcConnector) -> list[Any]:
        return await asyncio.gather(*(connector.check() for _ in range(5)), return_exceptions=True)

    found = asking(run, auth={"password": Secret("wr0ng-passw0rd")})
    assert {type(error) for error in found} == {AccessRefused}
    assert len({id(error) for error in found}) <= 5
    assert "wr0ng-passw0rd" not in str(found[0])


def test_a_database_that_is_not_there_is_named() -> None:
    """A wrong database in the url holds, and is not read as empty."""
    with pytest.raises((Hold, AccessRefused)) as error:
        asking(lambda c: read(c, "parties"), address().with_path("/no_such_db"))
    assert "404" in str(error.value)


def test_a_system_that_is_down_is_unavailable() -> None:
    """No connection is an outage for reads and writes; nothing is in doubt."""
    nowhere = URL("http://127.0.0.1:9/demo")
    with pytest.raises(Unavailable):
        asking(lambda c: read(c, "parties"), nowhere)
    [result] = asking(lambda c: c.write("parties", [Change("k", b"", {"code": "x"})]), nowhere)
    assert errors([result]) == [Unavailable]


def test_a_create_whose_answer_is_lost_is_in_doubt_and_found_again(tag: str) -> None:
    """All changes of a cut-off create are in doubt; a look-up tells that they took effect."""

    async def run() -> None:
        async with Cutting(address().port or 0, address().path, "party.party.create") as url:
            connector = ERP.open(settings(URL(url)))
            deleted = Change("gone", b"", None)
            results = await connector.write("parties", [party(tag, 1), deleted, party(tag, 2)])
            assert errors(results) == [InDoubt, None, InDoubt]
            found = await connector.lookup("parties", [f"{tag}-1", f"{tag}-2"], by="code")
            await connector.close()
            assert all(found)

    asyncio.run(run())


def test_a_step_whose_answer_is_lost_is_in_doubt_and_an_update_is_repeated(tag: str) -> None:
    """Nobody knows whether a cut-off step was taken; a cut-off update is an outage."""

    async def run() -> None:
        async with Cutting(address().port or 0, address().path, "sale.sale.quote", "party.party.write") as url:
            connector = ERP.open(settings(URL(url)))
            who = await customer(connector, tag)
            [made] = await connector.write("sales", [sale(tag, customer=who)])
            assert errors(await connector.call("sales", "quote", [str(made.target_id)])) == [InDoubt]
            [record] = await connector.lookup("sales", [str(made.target_id)])
            assert record is not None
            assert record["state"] == "quotation"
            assert errors(await connector.write("parties", [Change("k", b"", {"name": "n"}, who)])) == [Unavailable]
            await connector.close()

    asyncio.run(run())
