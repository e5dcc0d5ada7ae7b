"""An ERP on Tryton 8, through JSON-RPC.

Documents are made as drafts and taken through their steps. Sales are invoiced by hand there, since
Tieline's invoicing makes the invoice. A posted invoice is never changed.
"""

from typing import Any

from entities import Customer, Invoice, Order, OrderLine, Product

from tieline import Adapter, Ids, Step
from tieline.connectors.jsonrpc import Child, Find, JsonRpc, Model

UNIT = Find("product.uom", symbol="u")
EURO = Find("currency.currency", code="EUR")
TERM = Find("account.invoice.payment_term", name="30 days")
JOURNAL = Find("account.journal", code="REV")
RECEIVABLE = Find("account.account", code="1.2.1")
REVENUE = Find("account.account", code="4.1.1")

CATEGORY = Find("product.category", name="Goods", accounting=True)

erp = Adapter(
    JsonRpc(
        parties=Model(
            "party.party",
            match="code",
            fields=["code", "name"],
            children={"addresses": Child("party.address", parent="party", fields=["city"])},
            create_only=["addresses"],  # the ERP's people keep addresses once a party is there
        ),
        templates=Model(
            "product.template",
            match="code",
            fields=["code", "name"],
            children={"products": Child("product.product", parent="template", fields=["code"])},
            create_only=["products", "default_uom", "sale_uom", "type", "account_category"],
        ),
        sales=Model(
            "sale.sale",
            match="reference",
            fields=["reference", "state"],
            children={"lines": Child("sale.line", parent="sale", fields=["quantity", "unit_price"])},
            actions=["quote", "confirm", "process"],
        ),
        invoices=Model(
            "account.invoice",
            match="reference",
            fields=["reference", "state"],
            domain=[["type", "=", "out"]],
            children={"lines": Child("account.invoice.line", parent="invoice", fields=["quantity", "unit_price"])},
            actions=["post"],
        ),
    )
)


@erp.sink(Product, "templates", match="code", delete="ignore")
def template(product: Product) -> dict[str, Any]:
    """An article; one variant is made with it."""
    return {
        "code": product.sku,
        "name": product.title,
        "list_price": product.price.amount,
        "salable": True,
        "type": "goods",
        "default_uom": UNIT,
        "sale_uom": UNIT,
        "account_category": CATEGORY,
        "products": [{"cost_price": 0}],
    }


@erp.sink(Customer, "parties", match="code", delete="ignore")
def party(customer: Customer) -> dict[str, Any]:
    """A party whose code is the e-mail address."""
    address = customer.address
    return {
        "code": customer.email,
        "name": customer.name,
        "addresses": [
            {
                "street_unstructured": address.street,
                "postal_code": address.postcode,
                "city": address.city,
                "country": Find("country.country", code=address.country),
            }
        ],
    }


@erp.sink(
    Order,
    "sales",
    match="reference",
    then=[
        Step("quote", lambda sale: sale["state"] != "draft"),
        Step("confirm", lambda sale: sale["state"] not in {"draft", "quotation"}),
        Step("process", lambda sale: sale["state"] in {"processing", "done"}),
    ],
    frozen="the sale is in process in the ERP; change it there, or cancel it and place a new order",
    delete="ignore",
)
def sale(order: Order, ids: Ids) -> dict[str, Any]:
    """A sale whose reference is the order's number."""
    return {**document(order, ids), "sale_date": order.placed_at.date(), "shipment_address": home(order, ids)}


@erp.sink(
    Invoice,
    "invoices",
    match="reference",
    then=[Step("post", lambda invoice: invoice["state"] in {"posted", "paid"})],
    frozen="the invoice is posted and must not change; make a credit note in the ERP, then drop this message",
    delete="ignore",
)
def invoice(invoice: Invoice, ids: Ids) -> dict[str, Any]:
    """A customer invoice; it waits until the ERP has the order's sale."""
    ids(invoice.order)
    record = document(invoice, ids)
    return {
        **record,
        "type": "out",
        "journal": JOURNAL,
        "account": RECEIVABLE,
        "invoice_date": invoice.date,
        "lines": [{**line, "account": REVENUE} for line in record["lines"]],
    }


def document(of: Order | Invoice, ids: Ids) -> dict[str, Any]:
    """What a sale and an invoice have in common."""
    return {
        "reference": of.number,
        "party": int(ids(of.customer)),
        "invoice_address": home(of, ids),
        "payment_term": TERM,
        "currency": EURO,
        "lines": [line(one, ids) for one in of.lines],
    }


def home(of: Order | Invoice, ids: Ids) -> Find:
    """The customer's address in the ERP."""
    return Find("party.address", party=int(ids(of.customer)))


def line(of: OrderLine, ids: Ids) -> dict[str, Any]:
    """A line; the article's one variant has the article's code."""
    ids(of.product)
    return {
        "type": "line",
        "product": Find("product.product", code=of.product),
        "description": of.title,
        "quantity": of.quantity,
        "unit": UNIT,
        "unit_price": of.price.amount,
    }
