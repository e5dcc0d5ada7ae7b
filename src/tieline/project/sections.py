"""The sections of a project file, each read into the objects it stands for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tieline.adapter import Adapter
from tieline.entity import Entity
from tieline.flow import Flow, Retries, Robustness, Target
from tieline.process import Process
from tieline.project import times
from tieline.project.addresses import password_in_the_open, refused_bus, refused_store
from tieline.project.code import Code
from tieline.project.findings import meant
from tieline.project.table import Table
from tieline.settings import Limits, SystemSettings
from tieline.system import SourceSettings, System

# The parts of `auth` that are no secret: who asks, and how and where; everything else is a reference.
_PLAIN_AUTH: Final = frozenset(
    {"user", "username", "login", "header", "query", "prefix", "scheme", "kind", "realm", "database"}
    | {"client_id", "tenant", "scope", "audience"}
)
_PLAIN_ENDINGS: Final = ("_field", "_cookie", "_header", "_url", "_path")
DIRECT, BUS, MAIN = "direct", "bus", "main"
_NO_MORE: Final = 10_000
_DEFAULT_FLOW: Final = Flow(name="", entity="", source="", targets=())
_DEFAULT_SETTINGS: Final = SystemSettings(name="", url="")
_LONGEST_GIVE_UP: Final = times.seconds("90d")


@dataclass(slots=True)
class Read:
    """A section as read, with the table it stands in; `value` is None where it could not be made."""

    table: Table
    value: Any


@dataclass(slots=True)
class Mastery:
    """Who is right where systems feed each other: by field, or as a rule for the whole entity."""

    masters: Mapping[str, str] = field(default_factory=dict)
    conflicts: str = ""


def address(table: Table, folder: Path) -> str:
    """The `url` of a system, references resolved."""
    if password_in_the_open(table.text("url")):
        table.mistake("url", "a password stands here in the open", "write ${env:NAME} in its place")
    return table.resolved("url", folder)


def store(table: Table, folder: Path, default: str) -> str:
    """The address of the ledger."""
    if "store" not in table:
        return default
    if password_in_the_open(table.text("store")):
        table.mistake("store", "a password stands here in the open", "write ${env:NAME} in its place")
    url = table.resolved("store", folder)
    if (refused := refused_store(url)) is not None:
        table.mistake("store", *refused)
    return url


def bus(table: Table, name: str, folder: Path) -> str:
    """The address of a bus; empty stands for the store itself."""
    if name in {DIRECT, BUS}:
        table.findings.mistake(table.place(), f"a bus cannot be called {name!r}", "call it otherwise, such as main")
    url = address(table, folder)
    if url and (refused := refused_bus(url)) is not None:
        table.mistake("url", *refused)
    table.close()
    return url


def system(table: Table, name: str, code: Code, folder: Path) -> System | None:
    """One `[systems.NAME]`."""
    wanted = table.required("adapter", 'adapter = "adapters.NAME", the module that knows this kind of system')
    adapter: Adapter | None = code.the_one(Adapter, wanted, table.place("adapter")) if wanted else None
    limits = table.table("limits")
    settings = SystemSettings(
        name=name,
        url=address(table, folder),
        auth=table.secrets("auth", _is_plain, folder),
        limits=Limits(
            per_second=limits.number("per_second", Limits().per_second),
            at_once=limits.whole("at_once", Limits().at_once, least=1, most=_NO_MORE),
        ),
        options=table.free("options", folder),
        owner=table.text("owner"),
        folder=folder,
        timeout=table.seconds("timeout", _DEFAULT_SETTINGS.timeout),
        generation=table.whole("generation", _DEFAULT_SETTINGS.generation, least=1, most=_NO_MORE),
    )
    limits.close()
    if not settings.timeout:
        table.mistake("timeout", "no call is answered in no time", 'write timeout = "30s", or leave it out')
    if not settings.owner:
        table.findings.warning(table.place(), f"system {name} has no owner", 'say whom to call: owner = "…"')
    settling = table.seconds("settling", 120.0)
    sources = _sources(table, name, adapter)
    table.close()
    if adapter is None or not _resources_exist(table, adapter, code):
        return None
    return System(name=name, adapter=adapter, settings=settings, sources=sources, settling=settling)


def _is_plain(name: str) -> bool:
    return name in _PLAIN_AUTH or name.endswith(_PLAIN_ENDINGS)


def _sources(table: Table, name: str, adapter: Adapter | None) -> dict[str, SourceSettings]:
    found = {}
    for source, settings in table.tables("sources"):
        default = SourceSettings()
        found[source] = SourceSettings(
            triggers=tuple(settings.parsed("trigger", times.trigger, times.HOW_TRIGGERED)) or default.triggers,
            sweep=settings.seconds("sweep", default.sweep, never=True),
            overlap=settings.seconds("overlap", default.overlap),
            brake=settings.number("brake", default.brake, most=1),
        )
        if adapter is not None and source not in adapter.sources:
            what = f"the adapter of {name} has no source {source!r}"
            settings.findings.mistake(settings.place(), what, meant(source, adapter.sources))
        settings.close()
    return found


def _resources_exist(table: Table, adapter: Adapter, code: Code) -> bool:
    place = table.place("adapter")
    try:
        resources = adapter.connector.resources
        known = [str(name) for name in resources]
    except Exception as error:  # somebody else's connector may do anything here
        what = f"the adapter has no usable connector ({type(error).__name__}: {error})"
        table.findings.mistake(place, what, "give Adapter(…) a connector, such as Sql(…), Files(…) or Rest(…)")
        return False
    for kind, declared in (("source", adapter.sources.values()), ("sink", adapter.sinks.values())):
        for one in declared:
            if one.resource not in known:
                what = f"{kind} {one.name!r} names a resource {one.resource!r} that the connector does not have"
                table.findings.mistake(code.place_of(one.function, place), what, meant(one.resource, known))
    return True


def mastery(table: Table, entity: str, entities: Mapping[str, type[Entity]] | None, places: list[str]) -> Mastery:
    """One `[entities.NAME]`: who is right about what; `places` are the names of the systems."""
    if entities is not None and entity not in entities:
        table.findings.mistake(table.place(), f"there is no entity {entity!r}", meant(entity, entities))
    masters = table.table("masters")
    fields = list(entities[entity].__struct_fields__) if entities and entity in entities else None
    found = {}
    for name in masters.words():
        found[name] = master = masters.text(name)
        if fields is not None and name not in fields:
            masters.mistake(name, f"{entity} has no field {name!r}", meant(name, fields))
        if master and master not in places:
            masters.mistake(name, f"there is no system {master!r}", meant(master, places))
    conflicts = table.text("conflicts")
    choices = ["newest", "ask", *places]
    if conflicts and conflicts not in choices:
        table.mistake("conflicts", f"conflicts cannot be settled by {conflicts!r}", meant(conflicts, choices))
    if found or conflicts:
        what = f"who is right about {entity} is noted; conflicts are not settled by it yet"
        table.findings.warning(table.place(), what, "until then, let one system at a time change a field")
    table.close()
    return Mastery(found, conflicts)


def process(table: Table, name: str, code: Code) -> Process | None:
    """One `[processes.NAME]`."""
    module = table.text("module", f"processes.{name.replace('-', '_')}")
    if not table.text("owner"):
        table.findings.warning(table.place(), f"process {name} has no owner", 'say whom to call: owner = "…"')
    table.close()
    found: Process | None = code.the_one(Process, module, table.place("module"))
    return found


def flow(table: Table, name: str) -> Flow:
    """One `[flows.NAME]`, each value for itself; what it has to do with others is judged in `rules`."""
    found = Flow(
        name=name,
        entity=table.required("entity", 'entity = "…", the class in entities.py that it carries'),
        source=table.required("from", 'from = "…", the system it is read from'),
        targets=_targets(table),
        via=table.text("via", DIRECT),
        source_name=table.text("source"),
        robustness=_robustness(table),
        retries=_retries(table.table("retries")),
        owner=table.text("owner"),
        partitions=table.whole("partitions", _DEFAULT_FLOW.partitions, least=1, most=256),
        labels=tuple(dict.fromkeys(table.texts("labels"))),
    )
    if not found.owner:
        table.findings.warning(table.place(), f"flow {name} has no owner", 'say whom to call: owner = "…"')
    table.close()
    return found


def _targets(table: Table) -> tuple[Target, ...]:
    if table.is_table("to"):
        found = []
        for system_name, settings in table.tables("to"):
            found.append(Target(system_name, settings.text("sink")))
            settings.close()
    else:
        found = [Target(system_name) for system_name in table.texts("to")]
    if not found:
        table.mistake("to", f"flow {table.path[-1]} leads nowhere", 'write to = "…" or to = ["…", "…"]')
    return tuple(found)


def _robustness(table: Table) -> Robustness:
    word = table.text("robustness", Robustness.STANDARD)
    if word not in set(Robustness):
        table.mistake("robustness", f"there is no robustness {word!r}", meant(word, list(Robustness)))
        return Robustness.STANDARD
    if word == Robustness.LIVE:
        table.mistake("robustness", '"live" is not built yet', 'write "standard" or "exact"')
    return Robustness(word)


def _retries(table: Table) -> Retries:
    default = Retries()
    found = Retries(
        first=table.seconds("first", default.first),
        factor=table.number("factor", default.factor, least=1, most=100),
        longest=table.seconds("longest", default.longest),
        give_up=table.seconds("give_up", default.give_up),
    )
    if found.first < 1:
        table.mistake("first", "retries that follow at once press a system that is in trouble", 'write "1s" or more')
    if found.give_up > _LONGEST_GIVE_UP:
        table.mistake("give_up", "a message tried for so long is never seen by a person", 'write "90d" or less')
    table.close()
    return found
