"""Ways as people name them on the command line."""

from dataclasses import replace

import typer

from tieline.assembly import DIRECT
from tieline.cli.output import counted
from tieline.project import bus_at
from tieline.project.addresses import password_in_the_open, refused_bus, scheme_of
from tieline.project.findings import meant
from tieline.system import Landscape


def named_way(landscape: Landscape, to: str) -> tuple[str, str]:
    """The word for the project file, and the address that it gets under `[buses]`, if it is new.

    Raises:
        typer.BadParameter: where there is no such way.
    """
    ways = [DIRECT, "bus", *landscape.buses]
    if to in ways:
        return to, ""
    if "://" not in to:
        raise typer.BadParameter(f"there is no bus {to!r}; {meant(to, ways)}", param_hint="--to")
    if (refused := refused_bus(to)) is not None:
        raise typer.BadParameter("; ".join(refused), param_hint="--to")
    if password_in_the_open(to):
        raise typer.BadParameter("a password stands here in the open; write ${env:NAME}", param_hint="--to")
    resolved = bus_at(to, "new", landscape.folder)
    known = next((name for name, url in landscape.buses.items() if url == resolved), None)
    if known is not None:
        return known, ""
    scheme = scheme_of(to)
    names = (scheme if n == 1 else f"{scheme}{n}" for n in range(1, len(landscape.buses) + 2))
    return next(name for name in names if name not in ways), to


def with_bus(landscape: Landscape, name: str, address: str) -> Landscape:
    """The landscape with a bus more; where there is no address it is known already."""
    if not address:
        return landscape
    return replace(landscape, buses={**landscape.buses, name: bus_at(address, name, landscape.folder)})


def place(via: str, partitions: int) -> str:
    """A way, for people."""
    return via if via == DIRECT else f"{via} with {counted(partitions, 'partition')}"
