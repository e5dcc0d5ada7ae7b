"""A database's address, taken apart: ``postgresql://user:password@host:port/database?setting=value``."""

from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit


class Address(NamedTuple):
    """The parts of an address, decoded. `database` is a path for SQLite, relative where it has one slash less."""

    kind: str
    user: str | None
    password: str | None
    host: str | None
    port: int | None
    database: str
    settings: dict[str, str]


def parse_address(url: str) -> Address:
    """Take an address apart.

    Raises:
        ValueError: where it is none.
    """
    parts = urlsplit(url)
    if not parts.scheme or "://" not in url:
        raise ValueError("no scheme://")
    return Address(
        kind=parts.scheme.partition("+")[0],
        user=_decoded(parts.username),
        password=_decoded(parts.password),
        host=_decoded(parts.hostname),
        port=parts.port,
        database=unquote(parts.path.removeprefix("/")),
        settings=dict(parse_qsl(parts.query, keep_blank_values=True)),
    )


def _decoded(part: str | None) -> str | None:
    return unquote(part) if part else None
