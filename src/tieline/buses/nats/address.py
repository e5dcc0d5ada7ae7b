"""Addresses: ``nats://user:password@host:4222,other:4222?replicas=3`` and ``nats://local``."""

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote

from tieline.bus import Guarantee
from tieline.errors import ConfigurationError, Mistake

PORT: Final = 4222
LOCAL: Final = "local"
_COMMON: Final = "tieline"
_HOST: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]@/\s]+)(?::(?P<port>\d{1,5}))?")
_PREFIX: Final = re.compile(r"[A-Za-z0-9-]+")
_OF_LOCAL: Final = ("prefix", "server")
_OF_SERVERS: Final = ("replicas", "sync", "prefix", "tls", "ca")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the servers are and what is asked of them. No servers: one of the project's own, in `folder`.

    `replicas` is 0 where the address does not say. `prefix` begins every subject and stream.
    """

    servers: tuple[str, ...] = ()
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    replicas: int = 0
    synced: bool = False
    prefix: str = _COMMON
    tls_first: bool = False
    tls: ssl.SSLContext | None = None
    program: str = ""
    folder: Path = Path()

    @property
    def shown(self) -> str:
        """The address as it may be told: without who we are there."""
        return f"nats://{','.join(self.servers) or LOCAL}"

    def guarantee(self, replicas: int) -> Guarantee:
        """What an acknowledgement of a stream with so many replicas survives."""
        if replicas >= 3:
            return Guarantee.REPLICATED
        return Guarantee.SYNCED if self.synced else Guarantee.WRITTEN


def parse(url: str, folder: Path) -> Address:
    """The address that stands in the project file, references resolved.

    Raises:
        ConfigurationError: naming the part that is wrong; a password is never shown.
    """
    place, _, query = url.partition("://")[2].partition("?")
    who, _, hosts = place.rstrip("/").rpartition("@")
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = _OF_LOCAL if hosts == LOCAL else _OF_SERVERS
    for name in options.keys() - set(known):
        raise _wrong(f"does not know {name!r}", f"use some of: {', '.join(known)}")
    prefix = options.get("prefix", _COMMON)
    if not _PREFIX.fullmatch(prefix):
        raise _wrong(f"has a prefix {prefix!r}", "write letters, digits and - only")
    if hosts == LOCAL:
        if who:
            raise _wrong("names a user", "leave it out: the server is the project's own")
        program = str((folder / options["server"]).absolute()) if options.get("server") else ""
        return Address(prefix=prefix, synced=True, program=program, folder=folder / ".tieline" / "nats")
    user, colon, password = who.partition(":")
    return Address(
        servers=tuple(_server(host) for host in hosts.split(",")),
        user=unquote(user) if colon else "",
        password=unquote(password),
        token="" if colon else unquote(user),
        replicas=int(_one_of(options, "replicas", ("", "1", "3", "5")) or 0),
        synced=_one_of(options, "sync", ("", "always")) == "always",
        prefix=prefix,
        tls_first=_one_of(options, "tls", ("", "first")) == "first",
        tls=_authorities(folder / options["ca"]) if "ca" in options else None,
    )


def _server(host: str) -> str:
    found = _HOST.fullmatch(host)
    if found is None or int(found["port"] or PORT) > 65535:
        raise _wrong(f"has no host where {host!r} stands", "write nats://host:4222, or several hosts with commas")
    return f"{found['host']}:{found['port'] or PORT}"


def _one_of(options: dict[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = options.get(name, "")
    if value not in choices:
        raise _wrong(f"has {name}={value}", f"write {' or '.join(f'{name}={one}' for one in choices if one)}")
    return value


def _authorities(file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        raise _wrong(f"names authorities in {file}: {error.strerror or error}", "give a readable PEM file") from None


def _wrong(what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(Mistake("bus", f"the NATS address {what}", remedy))
