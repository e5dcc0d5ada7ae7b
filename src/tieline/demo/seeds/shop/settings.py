# mypy: ignore-errors
"""Settings of the shop, as a shop owner would write them: guests may order, the back office API needs a token."""

import os
from pathlib import Path

from oscar.defaults import *  # noqa: F403

DATA = Path(os.environ["SHOP_DATA"])
SECRET_KEY = os.environ["SHOP_SECRET"]
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "shop.urls"
SITE_ID = 1

OSCAR_SHOP_NAME = "Kestrel Pumps"
OSCAR_DEFAULT_CURRENCY = "EUR"
OSCAR_ALLOW_ANON_CHECKOUT = True
OSCAR_INITIAL_ORDER_STATUS = OSCARAPI_INITIAL_ORDER_STATUS = "new"
OSCAR_ORDER_STATUS_PIPELINE = {"new": ("packed", "cancelled"), "packed": ("shipped",), "shipped": (), "cancelled": ()}
OSCARAPI_BLOCK_ADMIN_API_ACCESS = False
OSCARAPI_ORDERLINE_FIELDS = (
    "url",
    "order",
    "product",
    "stockrecord",
    "partner_sku",
    "title",
    "quantity",
    "price_currency",
    "unit_price_excl_tax",
    "unit_price_incl_tax",
    "price_excl_tax",
    "price_incl_tax",
    "price_excl_tax_excl_discounts",
    "price_incl_tax_excl_discounts",
    "attributes",
)

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
STATIC_URL, MEDIA_URL, MEDIA_ROOT = "/static/", "/media/", DATA / "media"

# One writer at a time: a transaction takes the lock when it begins, so it waits instead of failing half-way.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "shop.sqlite",
        "ATOMIC_REQUESTS": True,
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "timeout": 30,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }
}
HAYSTACK_CONNECTIONS = {"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "shop.tokens.BearerAuthentication",
        "rest_framework.authentication.BasicAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
    "PAGE_SIZE": 100,
}
AUTHENTICATION_BACKENDS = [
    "oscar.apps.customer.auth_backends.EmailBackend",
    "django.contrib.auth.backends.ModelBackend",
]

_DJANGO_APPS = ["admin", "auth", "contenttypes", "sessions", "sites", "messages", "staticfiles", "flatpages"]
_OSCAR_APPS = {
    "": "analytics checkout address shipping catalogue catalogue.reviews communication partner basket payment "
    "offer order customer search voucher wishlists dashboard",
    "dashboard.": "reports users orders catalogue offers partners pages ranges reviews vouchers communications "
    "shipping",
}


def _config(path, dashboard):
    words = "".join(word.capitalize() for word in path.split("."))
    return (
        f"oscar.apps.{'dashboard.' if dashboard else ''}{path}.apps.{words}{'Dashboard' if dashboard else ''}Config"
    )


INSTALLED_APPS = [
    *(f"django.contrib.{app}" for app in _DJANGO_APPS),
    "oscar.config.Shop",
    *(_config(path, bool(prefix)) for prefix, paths in _OSCAR_APPS.items() for path in paths.split()),
    "widget_tweaks",
    "haystack",
    "treebeard",
    "sorl.thumbnail",
    "django_tables2",
    "rest_framework",
    "rest_framework.authtoken",
    "oscarapi",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "oscar.apps.basket.middleware.BasketMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "oscar.apps.search.context_processors.search_form",
                "oscar.apps.checkout.context_processors.checkout",
                "oscar.apps.communication.notifications.context_processors.notifications",
                "oscar.core.context_processors.metadata",
            ]
        },
    }
]
