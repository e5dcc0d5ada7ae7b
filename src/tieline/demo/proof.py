"""The oracle: do shop, ERP and BI agree? Read from their own SQLite files with plain SQL, none of Tieline's code.

What is compared, by key, each value exactly:

- shop orders with ERP sales: order number = `reference` of the sale; e-mail, lines (article, quantity, price), total
- shop orders with ERP invoices: order number = `reference` of the invoice, or, where that is empty, of the sale its
  lines originate from; lines and total; an invoice counts when it is posted or paid
- the BI database, where one is given, with tables of these columns (more do no harm):
    `orders(number, total, currency)` with the shop's orders,
    `invoices(number, total, currency)` with the ERP's posted invoices, `number` being the invoice's or its reference,
    `requests(number, title)` with the tracker's issues that are not retired

Credit notes (negative totals) and cancelled documents are left out. Amounts are Decimals: Tryton keeps the digits as
text; Django hands SQLite floats, which give back their two decimals exactly up to 15 digits. An amount with more
decimals than its partner is different, not rounded.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

SHOWN = 5  # how many keys of a kind the text names
POSTED = ("posted", "paid")
SOLD = ("confirmed", "processing", "done")

Line = tuple[str, Decimal, Decimal]
"""Article code, quantity, price of one."""


@dataclass(frozen=True)
class Document:
    """An order, a sale, an invoice or a request as one database has it. None: that database does not say."""

    key: str
    total: Decimal | None = None
    currency: str | None = None
    lines: tuple[Line, ...] | None = None
    customers: frozenset[str] | None = None
    state: str | None = None
    title: str | None = None

    def differs(self, other: Document) -> str | None:
        """How the other one contradicts this one, in words."""
        for name in ("total", "currency", "lines", "title"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None and theirs is not None and mine != theirs:
                return f"{name} {_show(mine)} ≠ {_show(theirs)}"
        if self.customers and other.customers is not None and not self.customers & other.customers:
            return f"customer {_show(self.customers)} ≠ {_show(other.customers)}"
        return None


@dataclass(frozen=True)
class Side:
    """All documents of one kind in one database."""

    name: str
    documents: tuple[Document, ...]

    @property
    def sums(self) -> dict[str, Decimal]:
        """The exact sum per currency."""
        found: dict[str, Decimal] = defaultdict(Decimal)
        for document in self.documents:
            if document.total is not None:
                found[document.currency or "?"] += document.total
        return dict(found)


@dataclass(frozen=True)
class Comparison:
    """What should be (`left`) against what is (`right`)."""

    left: Side
    right: Side
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    duplicate: tuple[str, ...]
    different: Mapping[str, str] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether both have the same documents with the same values, and no document twice."""
        return not (self.missing or self.extra or self.duplicate or self.different)

    def __str__(self) -> str:
        head = f"{'agree' if self.agrees else 'DIFFER'}: {_summary(self.left)}; {_summary(self.right)}"
        kinds = {"missing": self.missing, "extra": self.extra, "twice": self.duplicate}
        rows = [f"  {kind} {len(keys)}: {_some(keys)}" for kind, keys in kinds.items() if keys]
        rows += [f"  different {key}: {how}" for key, how in list(self.different.items())[:SHOWN]]
        if len(self.different) > SHOWN:
            rows.append(f"  different: {len(self.different)} in all")
        return "\n".join((head, *rows))


@dataclass(frozen=True)
class Proof:
    """All comparisons of one moment."""

    comparisons: tuple[Comparison, ...]

    @property
    def holds(self) -> bool:
        """Whether everything agrees."""
        return all(comparison.agrees for comparison in self.comparisons)

    def __str__(self) -> str:
        return "\n".join(map(str, self.comparisons))


def prove(shop: Path, erp: Path, tracker: Path | None = None, bi: Path | None = None) -> Proof:
    """Compare what the databases hold at this moment. Meaningful when nothing is on its way.

    Args:
        shop: django-oscar's SQLite file.
        erp: Tryton's.
        tracker: Roundup's; needed only for the BI's requests.
        bi: the BI database's; compared only where given.

    Raises:
        sqlite3.Error: where a file is no such database.
    """
    orders = Side("shop orders", tuple(shop_orders(shop)))
    sales = Side("ERP sales", tuple(erp_sales(erp)))
    invoices = Side("ERP invoices", tuple(erp_invoices(erp)))
    found = [compare(orders, sales, SOLD), compare(orders, invoices, POSTED)]
    if bi is not None:
        found.append(compare(orders, Side("BI orders", tuple(bi_rows(bi, "orders")))))
        in_bi = Side("BI invoices", tuple(bi_rows(bi, "invoices")))
        found.append(compare(Side("ERP invoices", tuple(_called_alike(erp, in_bi))), in_bi))
        if tracker is not None:
            issues = Side("maintenance requests", tuple(tracker_issues(tracker)))
            found.append(compare(issues, Side("BI requests", tuple(bi_rows(bi, "requests")))))
    return Proof(tuple(found))


def compare(left: Side, right: Side, states: Iterable[str] = ()) -> Comparison:
    """Compare two sides by key; `states`: in which of them a document on the right is finished."""
    wanted = {document.key: document for document in left.documents}
    there = {document.key: document for document in right.documents}
    finished = set(states)
    different = {}
    for key in sorted(wanted.keys() & there.keys()):
        how = wanted[key].differs(there[key])
        if how is None and finished and there[key].state not in finished:
            how = f"is still {there[key].state}"
        if how is not None:
            different[key] = how
    twice = [f"{side.name} {key}" for side in (left, right) for key in _twice(side)]
    return Comparison(
        left=left,
        right=right,
        missing=tuple(sorted(wanted.keys() - there.keys())),
        extra=tuple(sorted(there.keys() - wanted.keys())),
        duplicate=tuple(twice),
        different=different,
    )


def shop_orders(database: Path) -> Iterator[Document]:
    """All orders with what they come to, shipping and tax included."""
    with opened(database) as shop:
        lines = _lines(shop, "SELECT order_id, partner_sku, quantity, unit_price_incl_tax FROM order_line")
        shipping = (
            "SELECT id, number, total_incl_tax, currency, shipping_incl_tax, lower(guest_email) FROM order_order"
        )
        for row, number, total, currency, freight, email in shop.execute(shipping):
            amount = exact(freight)
            extra = (("(shipping)", Decimal(1), amount),) if amount else ()
            yield Document(
                key=number,
                total=exact(total),
                currency=currency,
                lines=tuple(sorted((*lines.get(row, ()), *extra))),
                customers=frozenset({email}) if email else None,
            )


def erp_sales(database: Path) -> Iterator[Document]:
    """All sales that are not cancelled; those without a reference under their own number."""
    with opened(database) as erp:
        lines = _lines(
            erp,
            "SELECT l.sale, coalesce(p.code, l.description), l.quantity, l.unit_price FROM sale_line l "
            "LEFT JOIN product_product p ON p.id = l.product WHERE l.type = 'line'",
        )
        known = _known_as(erp)
        for row, reference, state, currency, party in erp.execute(
            "SELECT s.id, coalesce(nullif(s.reference, ''), 'sale ' || coalesce(s.number, s.id)), s.state, c.code, "
            "s.party FROM sale_sale s JOIN currency_currency c ON c.id = s.currency WHERE s.state != 'cancelled'"
        ):
            sold = lines.get(row, ())
            yield Document(
                key=reference,
                total=amount_of(sold),
                currency=currency,
                lines=tuple(sorted(sold)),
                customers=known.get(party, frozenset()),
                state=state,
            )


def erp_invoices(database: Path, *, by_number: bool = False) -> Iterator[Document]:
    """All customer invoices that are neither cancelled nor credit notes, by reference or by their own number."""
    with opened(database) as erp:
        lines = _lines(
            erp,
            "SELECT l.invoice, coalesce(p.code, l.description), l.quantity, l.unit_price FROM account_invoice_line l "
            "LEFT JOIN product_product p ON p.id = l.product WHERE l.type = 'line' AND l.invoice IS NOT NULL",
        )
        known = _known_as(erp)
        origin = dict(
            erp.execute(
                "SELECT l.invoice, max(s.reference) FROM account_invoice_line l "
                "JOIN sale_line sl ON l.origin = 'sale.line,' || sl.id JOIN sale_sale s ON s.id = sl.sale "
                "WHERE s.reference != '' GROUP BY l.invoice"
            )
        )
        for row, number, reference, state, currency, party in erp.execute(
            "SELECT i.id, i.number, nullif(i.reference, ''), i.state, c.code, i.party FROM account_invoice i "
            "JOIN currency_currency c ON c.id = i.currency WHERE i.type = 'out' AND i.state != 'cancelled'"
        ):
            billed = lines.get(row, ())
            total = amount_of(billed)
            if total < 0 or (by_number and state not in POSTED):
                continue
            own = f"invoice {number or row}"
            yield Document(
                key=(number or own) if by_number else (reference or origin.get(row) or own),
                total=total,
                currency=currency,
                lines=tuple(sorted(billed)),
                customers=known.get(party, frozenset()),
                state=state,
            )


def tracker_issues(database: Path) -> Iterator[Document]:
    """All issues that are not retired."""
    with opened(database) as tracker:
        for number, title in tracker.execute("SELECT id, _title FROM _issue WHERE __retired__ = 0"):
            yield Document(key=str(number), title=title)


def bi_rows(database: Path, table: str) -> Iterator[Document]:
    """The rows of `orders`, `invoices` or `requests` of the BI database."""
    with opened(database) as bi:
        if table == "requests":
            for number, title in bi.execute("SELECT number, title FROM requests"):
                yield Document(key=str(number), title=title)
        else:
            for number, total, currency in bi.execute(f"SELECT number, total, currency FROM {table}"):
                yield Document(key=str(number), total=exact(total), currency=currency)


def exact(value: bytes | str | int | float) -> Decimal:
    """The number as the database has it, to its last decimal."""
    if isinstance(value, bytes):
        value = value.decode("ascii")
    return Decimal(repr(value) if isinstance(value, float) else value)


def amount_of(lines: Iterable[Line]) -> Decimal:
    """What the lines come to, each rounded to the cent as an invoice does."""
    return sum((round(quantity * price, 2) for _, quantity, price in lines), Decimal(0))


@contextmanager
def opened(database: Path) -> Iterator[sqlite3.Connection]:
    """The SQLite file, read-only, as it is at one moment."""
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        connection.execute("BEGIN")
        yield connection
    finally:
        connection.close()


def _lines(connection: sqlite3.Connection, query: str) -> dict[int, tuple[Line, ...]]:
    found: dict[int, list[Line]] = defaultdict(list)
    for document, code, quantity, price in connection.execute(query):
        found[document].append((code or "", exact(quantity), exact(price)))
    return {document: tuple(lines) for document, lines in found.items()}


def _known_as(erp: sqlite3.Connection) -> dict[int, frozenset[str]]:
    """By party: its e-mail addresses and its code, any of which may be the shop's e-mail."""
    found: dict[int, set[str]] = defaultdict(set)
    for party, value in erp.execute(
        "SELECT party, lower(value) FROM party_contact_mechanism WHERE type = 'email' "
        "UNION ALL SELECT id, lower(code) FROM party_party WHERE code IS NOT NULL"
    ):
        found[party].add(value)
    return {party: frozenset(names) for party, names in found.items()}


def _called_alike(erp: Path, in_bi: Side) -> Iterator[Document]:
    """The ERP's posted invoices under the kind of number the BI uses for them."""
    by_number = {document.key: document for document in erp_invoices(erp, by_number=True)}
    if any(document.key in by_number for document in in_bi.documents):
        yield from by_number.values()
    else:
        yield from (document for document in erp_invoices(erp) if document.state in POSTED)


def _twice(side: Side) -> list[str]:
    return sorted(key for key, times in Counter(d.key for d in side.documents).items() if times > 1)


def _summary(side: Side) -> str:
    sums = " + ".join(f"{amount} {currency}" for currency, amount in sorted(side.sums.items()))
    return f"{len(side.documents)} {side.name}" + (f", {sums}" if sums else "")


def _some(keys: tuple[str, ...]) -> str:
    return ", ".join(keys[:SHOWN]) + (", …" if len(keys) > SHOWN else "")


def _show(value: object) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none"
    if isinstance(value, tuple):
        return "; ".join(f"{quantity} × {code} at {price}" for code, quantity, price in value) or "none"
    return str(value)
