"""The only place that turns names into keepers: addresses into ledgers and buses."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from tieline.bus import Bus
from tieline.buses.memory import MemoryBus
from tieline.buses.sql import SqlBus
from tieline.connector import Connector
from tieline.errors import ConfigurationError, MissingExtra, Mistake
from tieline.ledger import Ledger
from tieline.ledgers.memory import MemoryLedger
from tieline.ledgers.postgresql import PostgresqlLedger
from tieline.ledgers.sqlite import SqliteLedger
from tieline.project import read_buses
from tieline.project.addresses import ENGINES, refused_bus, refused_store, scheme_of
from tieline.settings import without_password
from tieline.system import Landscape

MAIN: Final = "main"
DIRECT: Final = "direct"


def open_ledger(url: str, folder: Path = Path()) -> Ledger:
    """The ledger at ``sqlite:///…`` (relative to `folder`), ``postgresql://…`` or ``memory://``; connects lazily.

    Raises:
        ConfigurationError: where the address is no store's.
    """
    if (refused := refused_store(url)) is not None:
        raise ConfigurationError(Mistake("store", *refused))
    match scheme_of(url):
        case "sqlite":
            return SqliteLedger(url, folder)
        case "postgresql":
            return PostgresqlLedger(url)
        case _:
            return MemoryLedger(url)


def ledger_to_read(url: str, folder: Path = Path()) -> Ledger:
    """The ledger to look at: an empty one where a SQLite file is not there yet, so that looking makes none."""
    if scheme_of(url) == "sqlite" and not _sqlite_file(url, folder).exists():
        stand_in = MemoryLedger(url)
        stand_in.durable = SqliteLedger.durable  # as the file will be
        return stand_in
    return open_ledger(url, folder)


def open_bus(url: str, ledger: Ledger, folder: Path = Path()) -> Bus:
    """The bus at an address; left out, or the ledger's own address, it is the ledger's store itself.

    Raises:
        ConfigurationError: where the address is no bus's.
    """
    if not url or _same(url, ledger.url, folder):
        return SqlBus(ledger, shared=True)
    if (refused := refused_bus(url)) is not None:
        raise ConfigurationError(Mistake("bus", *refused))
    scheme = scheme_of(url)
    if scheme in ENGINES:
        return _open_engine(ENGINES[scheme], url, folder)
    if scheme == "memory":
        return MemoryBus()
    return SqlBus(open_ledger(url, folder), shared=False)


def _open_engine(name: str, url: str, folder: Path) -> Bus:
    """A bus of an optional module, which has a function `open_bus` of address and project folder.

    Raises:
        MissingExtra: where what it needs is not installed.
    """
    try:
        module = import_module(f"tieline.buses.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tieline"):
            raise
        raise MissingExtra(error.name, name) from None
    bus: Bus = module.open_bus(url, folder)
    return bus


class _Buses(dict[str, Bus]):
    """Buses by name; one to which a flow is moved while a worker runs is looked up in the project file again."""

    def __init__(self, landscape: Landscape, ledger: Ledger) -> None:
        own = open_bus("", ledger)
        super().__init__({DIRECT: own, MAIN: own})
        self._landscape = landscape
        self._ledger = ledger

    def __missing__(self, name: str) -> Bus:
        file = self._landscape.file
        return self.opened(name, ({} if file is None else read_buses(file))[name])

    def opened(self, name: str, url: str) -> Bus:
        """Open the bus of this name, once."""
        landscape, own = self._landscape, self[DIRECT]
        same = not url or _same(url, self._ledger.url, landscape.folder)
        self[name] = own if same else open_bus(url, self._ledger, landscape.folder)
        return self[name]


def open_buses(landscape: Landscape, ledger: Ledger) -> dict[str, Bus]:
    """Every bus of a landscape by name, with the ways that need no engine: "direct", and "main" if none is given.

    One that the project file gets later is opened when it is asked for.

    Raises:
        ConfigurationError: with every address that is no bus's.
    """
    buses = _Buses(landscape, ledger)
    mistakes: list[Mistake] = []
    for name, url in landscape.buses.items():
        try:
            buses.opened(name, url)
        except ConfigurationError as error:
            mistakes += [Mistake(f"buses.{name}", one.what, one.remedy) for one in error.mistakes]
    if mistakes:
        raise ConfigurationError(*mistakes)
    return buses


def open_connectors(landscape: Landscape) -> tuple[dict[str, Connector], list[Mistake]]:
    """A connector for each system that has one, and the mistakes of those whose settings cannot work."""
    opened: dict[str, Connector] = {}
    mistakes: list[Mistake] = []
    for name, system in landscape.systems.items():
        try:
            opened[name] = system.adapter.connector.open(system.settings)
        except ConfigurationError as error:
            mistakes += error.mistakes
    return opened, mistakes


async def close_all(buses: Mapping[str, Bus], ledger: Ledger) -> None:
    """Let go of everything that was opened, each once, the ledger last."""
    for bus in {id(bus): bus for bus in buses.values()}.values():
        await bus.close()
    await ledger.close()


def _sqlite_file(url: str, folder: Path) -> Path:
    return folder / unquote(url.partition(":///")[2])


def _same(url: str, other: str, folder: Path) -> bool:
    if scheme_of(url) == scheme_of(other) == "sqlite":
        return _sqlite_file(url, folder).resolve() == _sqlite_file(other, folder).resolve()
    # A ledger shows its address without the password.
    return without_password(url) == without_password(other)
