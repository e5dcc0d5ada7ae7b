# mypy: ignore-errors
"""Fills an empty Tryton database: a company that can sell and invoice. Arguments: configuration, catalogue."""

import csv
import datetime as dt
import os
import sys
from decimal import Decimal

import trytond.config

trytond.config.update_etc(sys.argv[1])

from proteus import Model, Wizard  # noqa: E402  the server part reads its configuration when it is imported
from proteus import config as proteus_config  # noqa: E402
from trytond import admin  # noqa: E402
from trytond.pool import Pool  # noqa: E402
from trytond.transaction import Transaction  # noqa: E402

DATABASE = "demo"
KNOWN = 40  # articles that the ERP knows from the start
COUNTRIES = [
    ("DE", "DEU", "Germany"),
    ("AT", "AUT", "Austria"),
    ("CH", "CHE", "Switzerland"),
    ("DK", "DNK", "Denmark"),
    ("FR", "FRA", "France"),
    ("PL", "POL", "Poland"),
]


def main(catalogue: str) -> None:
    """Make the database with its modules, then the company, its accounts and what it sells."""
    make_database()
    context = proteus_config.set_trytond(DATABASE, user="admin", config_file=sys.argv[1])
    company = add_company()
    context._context = Model.get("res.user").get_preferences(True, context.context)
    add_accounts(company)
    today = dt.datetime.now().astimezone().date()
    for year in (today.year - 1, today.year, today.year + 1):
        add_fiscal_year(company, year)
    add_terms()
    add_countries()
    prefer_manual_invoices()
    with open(catalogue, encoding="utf-8", newline="") as file:
        add_products(list(csv.DictReader(file)))


def make_database() -> None:
    """Tables, modules and the administrator's password."""

    class Options:
        database_names = (DATABASE,)
        update = ["ir", "res", "sale"]  # noqa: RUF012  the server appends to it
        activatedeps = True
        indexes = True
        languages = ("en",)
        update_modules_list = True
        email = "erp@kestrel.example"
        password = reset_password = False
        test_email = hostname = export_translations = validate = None
        validate_percentage = 0

    admin.run(Options)


def add_company():
    """The company, its currency with two decimals."""
    currency = Model.get("currency.currency")(
        name="Euro", symbol="€", code="EUR", numeric_code="978", digits=2, rounding=Decimal("0.01")
    )
    rate = currency.rates.new()
    rate.date, rate.rate = dt.date(2020, 1, 1), Decimal(1)
    currency.save()
    party = Model.get("party.party")(name="Kestrel Pumps GmbH")
    party.save()
    wizard = Wizard("company.company.config")
    wizard.execute("company")
    wizard.form.party, wizard.form.currency = party, currency
    wizard.execute("add")
    (company,) = Model.get("company.company").find([])
    return company


def add_accounts(company) -> None:
    """The universal chart of accounts, with the accounts customers and suppliers use by default."""
    account = Model.get("account.account")
    template, *_ = Model.get("account.account.template").find(
        [("parent", "=", None), ("name", "like", "%Universal%")]
    )
    wizard = Wizard("account.create_chart")
    wizard.execute("account")
    wizard.form.account_template, wizard.form.company = template, company
    wizard.execute("create_account")
    for kind in ("receivable", "payable"):
        found, *_ = account.find([(f"type.{kind}", "=", True), ("party_required", "=", True), ("closed", "!=", True)])
        setattr(wizard.form, f"account_{kind}", found)
    wizard.execute("create_properties")


def add_fiscal_year(company, year: int) -> None:
    """A year with its twelve periods and its own numbers for entries and invoices."""
    fiscal_year = Model.get("account.fiscalyear")(
        name=str(year), company=company, start_date=dt.date(year, 1, 1), end_date=dt.date(year, 12, 31)
    )
    kinds = Model.get("ir.sequence.type")
    strict = Model.get("ir.sequence.strict")
    (move_kind,) = kinds.find([("name", "=", "Account Move")])
    (invoice_kind,) = kinds.find([("name", "=", "Invoice")])
    moves = strict(name=f"Entries {year}", sequence_type=move_kind, company=company, prefix=f"E{year}-")
    invoices = strict(
        name=f"Invoices {year}", sequence_type=invoice_kind, company=company, prefix=f"{year}-", padding=5
    )
    moves.save()
    invoices.save()
    fiscal_year.move_sequence = moves
    numbers = (
        fiscal_year.invoice_sequences[0] if fiscal_year.invoice_sequences else fiscal_year.invoice_sequences.new()
    )
    for direction in ("in", "out"):
        setattr(numbers, f"{direction}_invoice_sequence", invoices)
        setattr(numbers, f"{direction}_credit_note_sequence", invoices)
    fiscal_year.save()
    fiscal_year.click("create_period")


def add_terms() -> None:
    """Payment within thirty days."""
    term = Model.get("account.invoice.payment_term")(name="30 days")
    line = term.lines.new()
    line.type = "remainder"
    line.relativedeltas.new().days = 30
    term.save()


def add_countries() -> None:
    """Where the shop ships to."""
    country = Model.get("country.country")
    for two, three, name in COUNTRIES:
        country(code=two, code3=three, name=name).save()


def prefer_manual_invoices() -> None:
    """A sale makes neither invoice nor shipment by itself unless it asks for them."""
    configuration = Model.get("sale.configuration")(1)
    configuration.sale_invoice_method = configuration.sale_shipment_method = "manual"
    configuration.save()


def add_products(articles) -> None:
    """Most of the shop's articles, under the shop's codes; the rest is for the integration to bring."""
    account = Model.get("account.account")
    revenue, *_ = account.find([("type.revenue", "=", True), ("closed", "!=", True)])
    expense, *_ = account.find([("type.expense", "=", True), ("closed", "!=", True)])
    goods = Model.get("product.category")(
        name="Goods", accounting=True, account_revenue=revenue, account_expense=expense
    )
    goods.save()
    (unit,) = Model.get("product.uom").find([("name", "=", "Unit")])
    with Transaction().start(DATABASE, 1, context=proteus_config.get_config().context):
        Pool().get("product.template").create(
            [
                {
                    "code": article["code"],
                    "name": article["name"],
                    "type": "goods",
                    "default_uom": unit.id,
                    "sale_uom": unit.id,
                    "salable": True,
                    "list_price": Decimal(article["price"]),
                    "account_category": goods.id,
                    "products": [("create", [{}])],
                }
                for article in articles[:KNOWN]
            ]
        )


if __name__ == "__main__":
    os.umask(0o077)
    main(sys.argv[2])
