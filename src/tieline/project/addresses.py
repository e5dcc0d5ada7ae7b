"""Which addresses a store and a bus may have, and what is said of one that does not fit."""

import re
from typing import Final
from urllib.parse import urlsplit

STORES: Final = ("sqlite", "postgresql", "memory")
ENGINES: Final = {"nats": "nats", "amqp": "rabbitmq", "amqps": "rabbitmq", "kafka": "kafka"}
"""Engines that are no store, by scheme; each is a module in `tieline.buses` and an extra of that name."""
BUSES: Final = (*STORES, *ENGINES)


def scheme_of(url: str) -> str:
    """The scheme of an address, in lower case; empty where there is none."""
    return url.partition("://")[0].lower() if "://" in url else ""


def refused_store(url: str) -> tuple[str, str] | None:
    """What is wrong with the address of a store, and the remedy."""
    return _refused(url, "store", STORES)


def refused_bus(url: str) -> tuple[str, str] | None:
    """What is wrong with the address of a bus, and the remedy."""
    return _refused(url, "bus", BUSES)


def password_in_the_open(url: str) -> bool:
    """Whether a password stands in an address itself; a reference to one does not count."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    # To NATS a name alone is a token.
    password = parts.username if parts.scheme == "nats" and parts.password is None else parts.password
    return bool(password) and not (password or "").startswith("${")


def _refused(url: str, kind: str, schemes: tuple[str, ...]) -> tuple[str, str] | None:
    scheme = scheme_of(url)
    if scheme not in schemes:
        known = ", ".join(f"{name}://" for name in schemes)
        what = f"a {kind} cannot be at {scheme}://" if scheme else f"the address of a {kind} begins with its kind"
        return what, f"use one of: {known}"
    if scheme == "sqlite" and not re.match(r"/+[^/]", url.partition("://")[2]):
        return "a SQLite address is three slashes and a file", "write sqlite:///path/in/the/project.db"
    return None
