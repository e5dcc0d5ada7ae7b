"""What docs/systems/tryton.md says of Tryton, done with plain JSON-RPC; and that the oracle sees it."""

import asyncio
import sqlite3
import time
import urllib.error
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tieline.demo.orders import place_orders
from tieline.demo.proof import Document, prove, shop_orders

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def order(key: str, *lines: tuple[str, int, str]) -> Document:
    exact = tuple((code, Decimal(quantity), Decimal(price)) for code, quantity, price in lines)
    return Document(key=key, lines=exact, customers=frozenset({"somebody@customers.example"}))


def test_orders_copied_by_hand_satisfy_the_oracle_and_damage_does_not(
    shop: Any, erp: Any, erp_file: Path, clerk: Any
) -> None:
    """Copied exactly, everything agrees to the last cent; then each kind of damage is named with its order."""
    asyncio.run(place_orders(shop.url, 6, chance=6))
    orders = list(shop_orders(shop.database))
    assert len(orders) == 6
    sales, _ = clerk.copy(orders)
    found = prove(shop.database, erp_file)
    assert found.holds, str(found)
    assert found.comparisons[0].left.sums == found.comparisons[0].right.sums == found.comparisons[1].right.sums

    victim = orders[0].key
    (line, *_) = erp.do("sale.line", "search", [["sale", "=", sales[0]]], 0, 1, None)
    erp.do("sale.line", "write", [line], {"unit_price": Decimal("0.01")})
    sold, billed = prove(shop.database, erp_file).comparisons
    assert set(sold.different) == {victim}
    assert "total" in sold.different[victim]
    assert billed.agrees

    clerk.invoice(orders[1])
    _, billed = prove(shop.database, erp_file).comparisons
    assert billed.duplicate == (f"ERP invoices {orders[1].key}",)
    assert not billed.agrees

    clerk.copy([order("NOBODY-1", ("P-1", 1, "20.90"))])
    sold, billed = prove(shop.database, erp_file).comparisons
    assert sold.extra == billed.extra == ("NOBODY-1",)


def test_the_bi_is_compared_when_given(shop: Any, erp: Any, erp_file: Path, clerk: Any, tmp_path: Path) -> None:
    """The BI's orders and invoices, by the ERP's number or its reference, must be there to the cent."""
    if not (orders := list(shop_orders(shop.database))):
        asyncio.run(place_orders(shop.url, 3, chance=7))
        orders = list(shop_orders(shop.database))
        clerk.copy(orders)
    invoices = erp.rows("account.invoice", [["type", "=", "out"], ["state", "=", "posted"]], "number", "total_amount")
    bi = tmp_path / "bi.sqlite"
    with sqlite3.connect(bi) as database:
        database.execute("CREATE TABLE orders (number TEXT, total TEXT, currency TEXT)")
        database.execute("CREATE TABLE invoices (number TEXT, total NUMERIC, currency TEXT)")
        rows = [(o.key, str(o.total), o.currency) for o in orders]
        database.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
        rows = [(i["number"], str(i["total_amount"]), "EUR") for i in invoices]
        database.executemany("INSERT INTO invoices VALUES (?, ?, ?)", rows)
    _, _, in_orders, in_invoices = prove(shop.database, erp_file, None, bi).comparisons
    assert in_orders.agrees, str(in_orders)
    assert in_invoices.agrees, str(in_invoices)

    with sqlite3.connect(bi) as database:
        database.execute("UPDATE invoices SET total = total + 0.001 WHERE number = ?", (invoices[0]["number"],))
        database.execute("DELETE FROM orders WHERE number = ?", (orders[0].key,))
    database.close()
    _, _, in_orders, in_invoices = prove(shop.database, erp_file, None, bi).comparisons
    assert in_orders.missing == (orders[0].key,)
    assert list(in_invoices.different) == [invoices[0]["number"]]


def test_the_erp_knows_most_articles_and_learns_the_rest(erp: Any, clerk: Any) -> None:
    """P-1 to P-40 are found by code from the start; what the shop sells besides can be made, once per code."""
    seeded = erp.rows("product.product", [["code", "in", [f"P-{number}" for number in range(1, 41)]]], "code")
    assert {row["code"] for row in seeded} == {f"P-{number}" for number in range(1, 41)}
    made = clerk.articles(["P-1", "P-50", "NEW-1"])
    assert clerk.articles(["NEW-1", "P-1", "P-50"]) == made
    assert len(set(made.values())) == 3


def test_each_step_of_a_sale_leads_to_the_next_state_and_is_refused_twice(erp: Any, clerk: Any) -> None:
    """quote, confirm and process move a sale on; a step from a wrong state is refused for all sales of the call."""
    first, second = clerk.sale(order("S-1", ("P-2", 2, "47.95"))), clerk.sale(order("S-2", ("P-2", 1, "47.95")))

    def states() -> list[str]:
        found = erp.do("sale.sale", "read", [first, second], ["state"])
        return [row["state"] for row in sorted(found, key=lambda row: row["id"])]

    assert states() == ["draft", "draft"]
    erp.do("sale.sale", "quote", [first])
    with pytest.raises(Exception, match='UserError: You can not call "quote"'):
        erp.do("sale.sale", "quote", [first, second])
    assert states() == ["quotation", "draft"]
    erp.do("sale.sale", "quote", [second])
    erp.do("sale.sale", "confirm", [first, second])
    assert states() == ["confirmed", "confirmed"]
    erp.do("sale.sale", "process", [first, second])
    erp.do("sale.sale", "process", [first, second])  # the one step that may be repeated
    assert states() == ["processing", "processing"]
    found = erp.one("sale.sale", [["reference", "=", "S-1"]], "total_amount", "invoices", "number")
    assert (found["total_amount"], found["invoices"]) == (Decimal("95.90"), [])  # manual: no invoice of its own
    assert found["number"]


def test_an_invoice_posts_from_draft_once_and_gets_its_number_then(erp: Any, clerk: Any) -> None:
    """A draft has no number; posting gives it one of this year's; posting again is refused; so is deleting."""
    made = clerk.invoice(order("I-1", ("P-3", 3, "74.49"), ("P-4", 1, "101.05")))
    where = [["reference", "=", "I-1"], ["type", "=", "out"]]
    draft = erp.one("account.invoice", where, "state", "number", "total_amount")
    assert (draft["id"], draft["state"], draft["number"]) == (made, "draft", None)
    erp.do("account.invoice", "post", [made])
    posted = erp.one("account.invoice", where, "state", "number", "total_amount", "tax_amount", "invoice_date")
    assert (posted["state"], posted["total_amount"]) == ("posted", Decimal("324.52"))
    assert posted["tax_amount"] == 0
    assert posted["number"].startswith(f"{posted['invoice_date'][0]}-")
    for method in ("post", "delete"):
        with pytest.raises(Exception, match="UserError"):
            erp.do("account.invoice", method, [made])


def test_an_invoice_line_may_name_the_sale_line_it_comes_from(erp: Any, clerk: Any) -> None:
    """With an origin the sale shows the invoice, and its state after another `process`."""
    wanted = order("O-1", ("P-5", 1, "128.99"))
    (sale,), _ = clerk.copy([order("O-0", ("P-5", 1, "128.99"))])
    (line,) = erp.do("sale.line", "search", [["sale", "=", sale]], 0, None, None)
    invoice = clerk.invoice(wanted)
    (billed,) = erp.do("account.invoice.line", "search", [["invoice", "=", invoice]], 0, None, None)
    erp.do("account.invoice.line", "write", [billed], {"origin": f"sale.line,{line}"})
    erp.do("account.invoice", "post", [invoice])
    erp.do("sale.sale", "process", [sale])
    (found,) = erp.do("sale.sale", "read", [sale], ["invoices", "invoice_state"])
    assert (found["invoices"], found["invoice_state"]) == ([invoice], "awaiting payment")


def test_a_credit_note_is_made_by_the_wizard(erp: Any, clerk: Any) -> None:
    """With refund, the credit note is posted, the invoice cancelled, and the oracle counts neither."""
    invoice = clerk.invoice(order("C-1", ("P-1", 2, "20.90")))
    erp.do("account.invoice", "post", [invoice])
    about = {**erp.context, "active_model": "account.invoice", "active_id": invoice, "active_ids": [invoice]}
    session, _, _ = erp.call("wizard.account.invoice.credit.create", erp.context)
    answers = {"start": {"with_refund": True, "invoice_date": None}}
    done = erp.call("wizard.account.invoice.credit.execute", session, answers, "credit", about)
    erp.call("wizard.account.invoice.credit.delete", session, about)
    ((_, data),) = done["actions"]
    (note,) = erp.do("account.invoice", "read", data["res_id"], ["total_amount", "state", "reference"])
    assert (note["total_amount"], note["state"], note["reference"]) == (Decimal("-41.80"), "posted", None)
    (credited,) = erp.do("account.invoice", "read", [invoice], ["state"])
    assert credited["state"] == "cancelled"


def test_last_modified_at_is_a_cursor_but_lines_do_not_move_it(erp: Any, clerk: Any) -> None:
    """It can be read, searched and sorted by; a line written by itself leaves its sale's stamp alone."""
    sale = clerk.sale(order("L-1", ("P-6", 1, "155.15")))
    (row,) = erp.do("sale.sale", "read", [sale], ["last_modified_at", "write_date", "create_date"])
    assert row["last_modified_at"] == row["write_date"] or (row["write_date"], row["create_date"]) == (
        None,
        row["last_modified_at"],
    )
    later = erp.rows(
        "sale.sale",
        [["last_modified_at", ">=", stamp(row["last_modified_at"])]],
        "last_modified_at",
        order=[["last_modified_at", "ASC"], ["id", "ASC"]],
    )
    assert [found["id"] for found in later] == [sale]
    time.sleep(0.01)
    (line,) = erp.do("sale.line", "search", [["sale", "=", sale]], 0, None, None)
    erp.do("sale.line", "write", [line], {"quantity": 2.0})
    (by_line,) = erp.do("sale.sale", "read", [sale], ["last_modified_at"])
    assert by_line["last_modified_at"] == row["last_modified_at"]
    erp.do("sale.sale", "write", [sale], {"lines": [["write", [line], {"quantity": 3.0}]]})
    (through_sale,) = erp.do("sale.sale", "read", [sale], ["last_modified_at", "total_amount"])
    assert through_sale["last_modified_at"] > row["last_modified_at"]
    assert through_sale["total_amount"] == Decimal("465.45")


def test_nothing_stops_a_second_sale_of_the_same_reference(erp: Any, clerk: Any) -> None:
    """Tryton does not merge: whoever repeats a create has to look the reference up first."""
    for _ in range(2):
        clerk.sale(order("D-1", ("P-7", 1, "182.33")))
    assert erp.do("sale.sale", "search_count", [["reference", "=", "D-1"]]) == 2


def test_mistakes_come_as_errors_with_a_name(erp: Any, clerk: Any) -> None:
    """A float price, a missing party and an unknown session are refused, each in its own way."""
    sale = clerk.sale(order("E-1", ("P-8", 1, "209.67")))
    (line,) = erp.do("sale.line", "search", [["sale", "=", sale]], 0, None, None)
    with pytest.raises(Exception, match="UserError: The number of digits"):
        erp.do("sale.line", "write", [line], {"unit_price": 20.9})
    with pytest.raises(Exception, match='UserError: A value is required for field "Party"'):
        erp.do("sale.sale", "create", [{"currency": clerk.currency}])
    with pytest.raises(urllib.error.HTTPError, match="403"):
        erp.do("account.invoice", "credit", [1])
    session = erp._headers.pop("Authorization")
    try:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            erp.do("sale.sale", "search_count", [])
    finally:
        erp._headers["Authorization"] = session


def stamp(value: tuple[int, ...]) -> dict[str, Any]:
    names = ("year", "month", "day", "hour", "minute", "second", "microsecond")
    return {"__class__": "datetime", **dict(zip(names, value, strict=True))}
