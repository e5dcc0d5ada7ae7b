# mypy: ignore-errors
"""Fills an empty shop: who may manage it, where it ships to, what it sells. Its argument is the catalogue."""

import csv
import os
import sys
from decimal import Decimal

import django
from django.core.management import call_command
from django.db import transaction

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402  models exist only after setup
from oscar.apps.address.models import Country  # noqa: E402
from oscar.apps.catalogue.categories import create_from_breadcrumbs  # noqa: E402
from oscar.apps.catalogue.models import Product, ProductCategory, ProductClass  # noqa: E402
from oscar.apps.partner.models import Partner, StockRecord  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402

COUNTRIES = [
    ("DE", "DEU", "Germany"),
    ("AT", "AUT", "Austria"),
    ("CH", "CHE", "Switzerland"),
    ("DK", "DNK", "Denmark"),
    ("FR", "FRA", "France"),
    ("PL", "POL", "Poland"),
]


def main(catalogue: str) -> None:
    """Migrate and fill the database of the settings."""
    call_command("migrate", verbosity=0)
    with open(catalogue, encoding="utf-8", newline="") as file:
        articles = list(csv.DictReader(file))
    with transaction.atomic():
        user = get_user_model().objects.create_superuser(
            os.environ["SHOP_USER"], f"{os.environ['SHOP_USER']}@kestrel.example", os.environ["SHOP_PASSWORD"]
        )
        Token.objects.create(user=user, key=os.environ["SHOP_TOKEN"])
        for two, three, name in COUNTRIES:
            Country.objects.create(
                iso_3166_1_a2=two, iso_3166_1_a3=three, printable_name=name, name=name, is_shipping_country=True
            )
        goods = ProductClass.objects.create(name="Goods", track_stock=False)
        warehouse = Partner.objects.create(name="Main warehouse", code="main")
        for article in articles:
            add(article, goods, warehouse)


def add(article: dict, goods: ProductClass, warehouse: Partner) -> None:
    """One article, on sale."""
    product = Product.objects.create(
        title=article["name"], product_class=goods, structure="standalone", upc=article["code"], is_public=True
    )
    family = " ".join(article["name"].split()[:2])
    ProductCategory.objects.create(product=product, category=create_from_breadcrumbs(family))
    StockRecord.objects.create(
        product=product,
        partner=warehouse,
        partner_sku=article["code"],
        price_currency="EUR",
        price=Decimal(article["price"]),
        num_in_stock=100_000,
    )


if __name__ == "__main__":
    main(sys.argv[1])
