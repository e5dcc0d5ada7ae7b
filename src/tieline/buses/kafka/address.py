"""The address of a Kafka cluster: its brokers, the prefix of our topics, how safe they are kept, who asks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from tieline.bus import Guarantee
from tieline.errors import ConfigurationError, Mistake
from tieline.settings import without_password

PREFIX: Final = "tieline"
REPLICATED: Final = 3  # copies from which on the loss of a machine is survived, and the others still agree
_PORT: Final = 9092
_SECURITY: Final = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_FILES: Final = {
    "ca": "ssl.ca.location",
    "certificate": "ssl.certificate.location",
    "key": "ssl.key.location",
}
_OPTIONS: Final = ("replicas", "timeout", "security", "mechanism", *_FILES, "key_password")


@dataclass(frozen=True, slots=True)
class Address:
    """What an address says. `client` is for the client library, and may hold secrets; `shown` holds none."""

    shown: str
    servers: str
    prefix: str = PREFIX
    replicas: int = 1
    timeout: float = 15.0
    client: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def guarantee(self) -> Guarantee:
        """A broker acknowledges before its disk has it: only other machines make it safer."""
        return Guarantee.REPLICATED if self.replicas >= REPLICATED else Guarantee.WRITTEN

    @property
    def in_sync(self) -> int:
        """How many copies must agree before a message is acknowledged: more than half."""
        return self.replicas // 2 + 1


def read_address(url: str, folder: Path) -> Address:
    """The address, its files relative to `folder`.

    Raises:
        ConfigurationError: with every mistake in it.
    """
    reading = _Reading(url, folder)
    address = reading.address()
    if reading.mistakes:
        raise ConfigurationError(*reading.mistakes)
    return address


class _Reading:
    """One address being read; collects its mistakes."""

    def __init__(self, url: str, folder: Path) -> None:
        self.mistakes: list[Mistake] = []
        self._shown = without_password(url).partition("?")[0]
        self._folder = folder
        self._parts = urlsplit(url)
        self._options = self._known(dict(parse_qsl(self._parts.query, keep_blank_values=True)))

    def address(self) -> Address:
        """What could be read; only good where there are no mistakes."""
        prefix = unquote(self._parts.path.strip("/")) or PREFIX
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.]|-(?!-)){0,60}", prefix):
            what = f"{prefix!r} cannot begin the names of topics"
            self._mistake(what, "use up to 60 letters, digits, dots and single hyphens after the /")
        return Address(
            self._shown,
            self._servers(),
            prefix,
            int(self._number("replicas", 1, 1)),
            self._number("timeout", 15, 1),
            self._client(),
        )

    def _known(self, options: dict[str, str]) -> dict[str, str]:
        for name in options:
            if name not in _OPTIONS:
                self._mistake(f"has no option {name!r}", f"use one of: {', '.join(_OPTIONS)}")
        return options

    def _servers(self) -> str:
        hosts = self._parts.netloc.rpartition("@")[2]
        servers = []
        for host in hosts.split(","):
            name, _, port = host.partition(":") if not host.startswith("[") else host.rpartition(":")
            if not name or not re.fullmatch(r"\d{0,5}", port):
                self._mistake("names no broker", "write kafka://host:9092, or several hosts with commas between")
                break
            servers.append(f"{name}:{port or _PORT}")
        return ",".join(servers)

    def _number(self, name: str, default: float, least: float) -> float:
        text = self._options.get(name)
        if text is None:
            return default
        if not re.fullmatch(r"\d{1,6}", text) or int(text) < least:
            self._mistake(f"{name} is {text[:20]!r}", f"write a whole number from {least:g} on")
            return default
        return int(text)

    def _client(self) -> dict[str, str]:
        user, password = self._credentials()
        security = self._chosen("security", _SECURITY, "sasl_ssl" if user else "plaintext")
        client = {"security.protocol": security}
        if security.startswith("sasl"):
            mechanism = self._chosen("mechanism", _MECHANISMS, "SCRAM-SHA-512")
            client |= {"sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": password}
            if not (user and password):
                remedy = "write kafka://user:${env:NAME}@host:9093"
                self._mistake(f"asks for {security} without user and password", remedy)
        elif user:
            self._mistake(f"has a user, whom {security} does not ask for", "use security=sasl_ssl")
        if security.endswith("ssl"):
            client |= self._files()
        return client

    def _credentials(self) -> tuple[str, str]:
        user, _, password = self._parts.netloc.rpartition("@")[0].partition(":")
        return unquote(user), unquote(password)

    def _chosen(self, name: str, of: tuple[str, ...], default: str) -> str:
        chosen = self._options.get(name, default)
        for known in of:
            if chosen.lower() == known.lower():
                return known
        self._mistake(f"{name} is {chosen[:40]!r}", f"use one of: {', '.join(of)}")
        return default

    def _files(self) -> dict[str, str]:
        found = {}
        for name, setting in _FILES.items():
            if name in self._options:
                file = self._folder / self._options[name]
                if not file.is_file():
                    self._mistake(f"{name}: there is no file {file}", "name a PEM file, relative to the project")
                found[setting] = str(file)
        if "key_password" in self._options:
            found["ssl.key.password"] = self._options["key_password"]
        return found

    def _mistake(self, what: str, remedy: str) -> None:
        self.mistakes.append(Mistake(f"bus {self._shown}", what, remedy))
