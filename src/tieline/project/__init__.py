"""A project: `tieline.toml` and the Python beside it, read into a landscape.

Every mistake of a project is found in one reading and raised together, each with its file, its line
and its remedy.
"""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from tieline.errors import ConfigurationError, Mistake
from tieline.process import Process
from tieline.project import sections
from tieline.project.code import Code
from tieline.project.findings import PROJECT_FILE, Findings, Place
from tieline.project.lines import line_numbers
from tieline.project.rules import World, Written, complete
from tieline.project.sections import Mastery
from tieline.project.table import Table
from tieline.system import Landscape, System

__all__ = ["PROJECT_FILE", "Mastery", "Project", "find", "load", "read"]

_MOST_BYTES: Final = 4_000_000
_NAMED: Final = (("buses", "buses.{}"), ("systems", "systems.{}"), ("flows", "flow {}"))
_AT: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A landscape as its project declares it, with what was noticed and what only people need.

    `warnings` are allowed, and seldom meant; `mastery` says by entity who is right where systems
    feed each other; `process_owners` are by process; `places` tell file and line of what mistakes
    that show later speak of, such as `systems.shop` or `flow orders`.
    """

    landscape: Landscape
    warnings: tuple[Mistake, ...] = ()
    mastery: Mapping[str, Mastery] = field(default_factory=dict)
    process_owners: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    def located(self, mistake: Mistake) -> Mistake:
        """The mistake with file and line, where it speaks of a section of the project file."""
        for name, place in self.places.items():
            if mistake.where == name or mistake.where.startswith((f"{name}.", f"{name}:")):
                return Mistake(f"{place} ({mistake.where})", mistake.what, mistake.remedy)
        return mistake


def find(start: Path) -> Path | None:
    """The folder at or above `start` that holds a project file; None where there is none."""
    start = start.resolve()
    return next((folder for folder in (start, *start.parents) if (folder / PROJECT_FILE).is_file()), None)


def load(folder_or_file: Path | str) -> Landscape:
    """The landscape of the project in a folder, or of its `tieline.toml`.

    Raises:
        ConfigurationError: with every mistake of the project, in order of file and line.
    """
    return read(folder_or_file).landscape


def read(folder_or_file: Path | str) -> Project:
    """The project in a folder, or of its `tieline.toml`, warnings included.

    Raises:
        ConfigurationError: with every mistake of the project, in order of file and line.
    """
    given = Path(folder_or_file).resolve()
    file = given / PROJECT_FILE if given.is_dir() else given
    findings = Findings()
    changed = file.stat().st_mtime if file.is_file() else math.inf  # before it is read: it may be changed meanwhile
    top = _parsed(file, findings)
    code = Code(file.parent, findings)
    project = None if top is None else _project(top, code, file, changed, findings)
    if project is None or findings.mistakes:
        code.forget()
        raise ConfigurationError(*findings.mistakes)
    return project


def _parsed(file: Path, findings: Findings) -> Table | None:
    try:
        with file.open("rb") as stream:
            text = stream.read(_MOST_BYTES + 1).decode().replace("\r\n", "\n")
    except (OSError, ValueError) as error:
        what = (error.strerror or str(error)) if isinstance(error, OSError) else "this is no UTF-8 text"
        findings.mistake(Place(file.name), what, f"put a {PROJECT_FILE} there; `tieline new` makes one to start from")
        return None
    if len(text) > _MOST_BYTES:
        findings.mistake(Place(file.name), "too large for a project file", f"stay below {_MOST_BYTES} bytes")
        return None
    try:
        values = tomllib.loads(text)
        return Table(file.name, values, (), line_numbers(text), findings)
    except (ValueError, RecursionError) as error:
        line, what = _syntax(error, text)
        findings.mistake(
            Place(file.name, line), f"no valid TOML: {what}", "correct this line; nothing below it was looked at"
        )
        return None


def _syntax(error: Exception, text: str) -> tuple[int, str]:
    said = str(error)
    at = _AT.search(said)
    if at is None:
        return 1, said
    return int(at[1] or text.count("\n") + 1), said[: at.start()]


def read_buses(file: Path) -> dict[str, str]:
    """The addresses of a project file's buses as they are now, references resolved; nothing else of it is read.

    Raises:
        ConfigurationError: with what is wrong with them.
    """
    findings = Findings()
    top = _parsed(file, findings)
    found = {} if top is None else {bus: sections.bus(table, bus, file.parent) for bus, table in top.tables("buses")}
    if findings.mistakes:
        raise ConfigurationError(*findings.mistakes)
    return found


def bus_at(address: str, name: str, folder: Path) -> str:
    """The address of a bus as a project file would have it, references resolved.

    Raises:
        ConfigurationError: with what is wrong with it.
    """
    findings = Findings()
    found = sections.bus(Table(address, {"url": address}, ("buses", name), {}, findings), name, folder)
    if findings.mistakes:
        raise ConfigurationError(*findings.mistakes)
    return found


def _project(top: Table, code: Code, file: Path, changed: float, findings: Findings) -> Project:
    folder = file.parent
    head = top.table("tieline")
    name = head.required("name", '[tieline] name = "…", what this landscape is called')
    store = sections.store(head, folder, Landscape(name="").store)
    head.close()
    entities = code.entities()
    buses = {bus: sections.bus(table, bus, folder) for bus, table in top.tables("buses")}
    systems = {one: sections.system(table, one, code, folder) for one, table in top.tables("systems")}
    processes, owners = _processes(top, code, systems)
    places = [*systems, *processes]
    mastery = {one: sections.mastery(table, one, entities, places) for one, table in top.tables("entities")}
    written = [Written(sections.flow(table, one), table) for one, table in top.tables("flows")]
    top.close()
    world = World(entities, systems, processes, buses, mastery, code, findings)
    flows = complete(world, written)
    landscape = Landscape(
        name=name,
        store=store,
        folder=folder,
        file=file,
        buses={bus: url for bus, url in buses.items() if url},
        systems=_usable(systems),
        processes=_usable(processes),
        flows={name: msgspec.structs.replace(flow, said_at=changed) for name, flow in flows.items()},
        entities=entities or {},
    )
    return Project(
        landscape=landscape,
        warnings=findings.warnings,
        mastery=mastery,
        process_owners=owners,
        places={
            **{
                name.format(one): str(table.place()) for section, name in _NAMED for one, table in top.tables(section)
            },
            **{
                f"entity {one}": str(code.place_of(cls, Place("entities.py")))
                for one, cls in (entities or {}).items()
            },
        },
    )


def _processes(
    top: Table, code: Code, systems: Mapping[str, System | None]
) -> tuple[dict[str, Process | None], dict[str, str]]:
    processes, owners = {}, {}
    for name, table in top.tables("processes"):
        found = sections.process(table, name, code)
        if name in systems:
            top.findings.mistake(table.place(), f"{name!r} is a system already", "give the process another name")
        else:
            processes[name] = found
            owners[name] = table.text("owner")
    return processes, owners


def _usable(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}
