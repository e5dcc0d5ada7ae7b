"""The demo company's real systems, running; and somebody who copies orders by hand."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.demo.erp import Erp

from tieline.demo.proof import Document
from tieline.demo.system import default_home
from tieline.demo.systems import Oscar, Roundup, Tryton, company, running


def quiet(_system: str, _text: str, _done: float | None) -> None:
    """Tell nobody."""


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Oscar, Tryton, Roundup]]:
    found = company(default_home(), tmp_path_factory.mktemp("demo"))
    with running(found, quiet):
        yield found
    for system in found:
        system.forget()


@pytest.fixture(scope="module")
def shop(systems: tuple[Oscar, Tryton, Roundup]) -> Oscar:
    return systems[0]


@pytest.fixture(scope="module")
def maintenance(systems: tuple[Oscar, Tryton, Roundup]) -> Roundup:
    return systems[2]


@pytest.fixture(scope="module")
def erp(systems: tuple[Oscar, Tryton, Roundup]) -> Erp:
    access = systems[1].access
    return Erp(systems[1].url, access.user, access.password)


@pytest.fixture(scope="module")
def erp_file(systems: tuple[Oscar, Tryton, Roundup]) -> Path:
    """The ERP's own database, which the proof reads."""
    return systems[1].database


class Clerk:
    """Somebody who copies the shop's orders into the ERP by hand: parties, sales, invoices."""

    def __init__(self, erp: Erp) -> None:
        self.erp = erp
        (self.currency,) = erp.do("currency.currency", "search", [["code", "=", "EUR"]], 0, 1, None)
        (self.term,) = erp.do("account.invoice.payment_term", "search", [], 0, 1, None)
        (self.journal,) = erp.do("account.journal", "search", [["type", "=", "revenue"]], 0, 1, None)
        (defaults,) = erp.do("account.configuration", "read", [1], ["default_account_receivable"])
        self.receivable = defaults["default_account_receivable"]
        (goods,) = erp.rows("product.category", [["name", "=", "Goods"]], "account_revenue")
        (self.goods, self.revenue) = (goods["id"], goods["account_revenue"])
        (self.unit,) = erp.do("product.uom", "search", [["name", "=", "Unit"]], 0, 1, None)

    def articles(self, codes: list[str]) -> dict[str, int]:
        """The products of these codes; those that the ERP does not know yet are made."""
        known = {row["code"]: row["id"] for row in self.erp.rows("product.product", [["code", "in", codes]], "code")}
        new = sorted(set(codes) - known.keys())
        if new:
            self.erp.do("product.template", "create", [self.article(code) for code in new])
            return self.articles(codes)
        return known

    def article(self, code: str) -> dict[str, Any]:
        return {
            "code": code,
            "name": code,
            "type": "goods",
            "default_uom": self.unit,
            "salable": True,
            "sale_uom": self.unit,
            "list_price": Decimal("1.00"),
            "account_category": self.goods,
            "products": [["create", [{}]]],
        }

    def copy(self, orders: list[Document]) -> tuple[list[int], list[int]]:
        """The orders as processed sales and posted invoices; the ids of both."""
        sales = [self.sale(order) for order in orders]
        for step in ("quote", "confirm", "process"):
            self.erp.do("sale.sale", step, sales)
        invoices = [self.invoice(order) for order in orders]
        self.erp.do("account.invoice", "post", invoices)
        return sales, invoices

    def party(self, email: str) -> dict[str, Any]:
        where = [["contact_mechanisms", "where", [["type", "=", "email"], ["value", "=", email]]]]
        if not self.erp.do("party.party", "search_count", where):
            self.erp.do(
                "party.party",
                "create",
                [
                    {
                        "name": email.partition("@")[0],
                        "addresses": [["create", [{"street": "Hafenstraße 1", "city": "Köln"}]]],
                        "contact_mechanisms": [["create", [{"type": "email", "value": email}]]],
                    }
                ],
            )
        return self.erp.one("party.party", where, "addresses")

    def sale(self, order: Document) -> int:
        party = self.party(*(order.customers or ()))
        (made,) = self.erp.do(
            "sale.sale",
            "create",
            [
                {
                    "reference": order.key,
                    "party": party["id"],
                    "invoice_address": party["addresses"][0],
                    "shipment_address": party["addresses"][0],
                    "currency": self.currency,
                    "payment_term": self.term,
                    "invoice_method": "manual",
                    "shipment_method": "manual",
                    "lines": [["create", self.lines(order)]],
                }
            ],
        )
        return int(made)

    def invoice(self, order: Document) -> int:
        party = self.party(*(order.customers or ()))
        (made,) = self.erp.do(
            "account.invoice",
            "create",
            [
                {
                    "type": "out",
                    "reference": order.key,
                    "party": party["id"],
                    "invoice_address": party["addresses"][0],
                    "account": self.receivable,
                    "journal": self.journal,
                    "currency": self.currency,
                    "payment_term": self.term,
                    "lines": [["create", self.lines(order, billed=True)]],
                }
            ],
        )
        return int(made)

    def lines(self, order: Document, *, billed: bool = False) -> list[dict[str, Any]]:
        sold = order.lines or ()
        products = self.articles([code for code, _, _ in sold])
        account = {"account": self.revenue} if billed else {}
        return [
            {
                "type": "line",
                "product": products[code],
                "description": code,
                "quantity": float(quantity),
                "unit": self.unit,
                "unit_price": price,
                **account,
            }
            for code, quantity, price in sold
        ]


@pytest.fixture(scope="module")
def clerk(erp: Erp) -> Clerk:
    return Clerk(erp)
