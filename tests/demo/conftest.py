"""The demo company's real systems, running; and Tryton by plain JSON-RPC, as docs/systems/tryton.md describes it."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

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


class Refused(Exception):
    """The ERP answered with an error: its name and its message."""


class Erp:
    """Tryton over JSON-RPC and nothing else."""

    def __init__(self, system: Tryton) -> None:
        self.database = system.database
        self._endpoint = f"{system.url}/rpc/"
        self._headers = {"Content-Type": "application/json"}
        access = system.access
        user, token, *_ = self.call("common.db.login", access.user, {"password": access.password}, "en")
        session = base64.b64encode(f"{access.user}:{user}:{token}".encode()).decode()
        self._headers["Authorization"] = f"Session {session}"
        self.context = self.call("model.res.user.get_preferences", True, {})

    def call(self, method: str, *params: Any) -> Any:
        body = json.dumps({"id": 1, "method": method, "params": params}, default=encoded).encode()
        request = urllib.request.Request(self._endpoint, body, self._headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.loads(answer.read(), object_hook=decoded)
        if found.get("error"):
            name, details = found["error"]
            raise Refused(f"{name}: {details[0] if details else ''}")
        return found["result"]

    def do(self, model: str, method: str, *params: Any) -> Any:
        return self.call(f"model.{model}.{method}", *params, self.context)

    def rows(self, model: str, where: list[Any], *fields: str, order: Any = None) -> list[dict[str, Any]]:
        return list(self.do(model, "search_read", where, 0, None, order, list(fields)))

    def one(self, model: str, where: list[Any], *fields: str) -> dict[str, Any]:
        (found,) = self.rows(model, where, *fields)
        return found


def encoded(value: Any) -> Any:
    if isinstance(value, Decimal):
        return {"__class__": "Decimal", "decimal": str(value)}
    raise TypeError(type(value))


def decoded(value: dict[str, Any]) -> Any:
    if value.get("__class__") == "Decimal":
        return Decimal(value["decimal"])
    if value.get("__class__") in ("date", "datetime"):
        return tuple(number for name, number in value.items() if name != "__class__")
    return value


@pytest.fixture(scope="module")
def erp(systems: tuple[Oscar, Tryton, Roundup]) -> Erp:
    return Erp(systems[1])


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
