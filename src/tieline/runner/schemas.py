"""What the ledger has seen of each entity, version by version, and how a project's own definition stands to it.

Whoever publishes a version first notes its schema. From then on the version means that schema: what changes on the
wire needs the next number, so that a worker with the older entities sees that it cannot read it.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from tieline.entity import Entity, wire_schema
from tieline.errors import ConfigurationError, Mistake
from tieline.evolution import Difference, Schema, differences
from tieline.ledger import Stores
from tieline.runner.upcasting import outdated


class Verdict(StrEnum):
    """How an entity stands to what the ledger has seen of it."""

    NEW = "new"
    SAME = "same"
    COMPATIBLE = "compatible"
    UPCAST = "upcast"
    CHANGED = "changed"
    MISSING = "upcaster missing"
    OLDER = "older"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """An entity beside what the ledger has seen: `seen` are versions, `differences` are to the last of them."""

    entity: str
    version: int
    verdict: Verdict
    seen: list[int] = []
    differences: list[Difference] = []
    mistakes: list[Mistake] = []


def seen_versions(stores: Stores, entity: type[Entity]) -> dict[int, Schema]:
    """The schemas of an entity that were published, by version."""
    return {int(version): schema for version, schema in (stores.notes.get(_note(entity)) or {}).items()}


def newest_seen(stores: Stores, entity: type[Entity]) -> int:
    """The highest version of an entity that was published; 0 where none was."""
    return max(seen_versions(stores, entity), default=0)


def note_schema(stores: Stores, entity: type[Entity]) -> None:
    """Keep the schema under which an entity is published, before it is for the first time.

    Raises:
        Outdated: where a newer version was published already.
        ConfigurationError: where another schema was, under the same version.
    """
    seen = seen_versions(stores, entity)
    if max(seen, default=0) > entity.__version__:
        raise outdated("what was published last", entity, max(seen))
    schema = wire_schema(entity)
    if entity.__version__ in seen:
        if found := standing(entity, seen).mistakes:
            raise ConfigurationError(*found)
        return
    kept = {str(version): one for version, one in seen.items()}
    stores.notes.put(_note(entity), {**kept, str(entity.__version__): schema})


def standings(stores: Stores, entities: Iterable[type[Entity]]) -> list[Standing]:
    """Each entity beside what the ledger has seen of it."""
    return [standing(entity, seen_versions(stores, entity)) for entity in entities]


def standing(entity: type[Entity], seen: Mapping[int, Schema]) -> Standing:
    """An entity beside what was seen of it, by version."""
    version, last = entity.__version__, max(seen, default=0)
    schema = wire_schema(entity)
    found = differences(seen[last], schema) if seen else []
    if version in seen and (changes := differences(seen[version], schema)):
        verdict, found, mistakes = Verdict.CHANGED, changes, [_changed(entity, changes, last)]
    elif version < last:
        verdict, mistakes = Verdict.OLDER, []
    elif mistakes := [*_of_another_kind(entity, seen, schema), *_missing(entity, seen, schema)]:
        verdict = Verdict.MISSING
    elif not seen:
        verdict = Verdict.NEW
    elif version == last:
        verdict = Verdict.SAME
    else:
        verdict = Verdict.COMPATIBLE if all(one.compatible for one in found) else Verdict.UPCAST
    return Standing(
        entity=entity.__name__,
        version=version,
        verdict=verdict,
        seen=sorted(seen),
        differences=found,
        mistakes=mistakes,
    )


def _changed(entity: type[Entity], changes: list[Difference], last: int) -> Mistake:
    name, version = entity.__name__, entity.__version__
    remedy = f"write version={last + 1}"
    if all(one.compatible for one in changes):
        remedy += "; an upcaster is not needed"
    else:
        remedy += f" and an upcaster: @{name}.upcaster({last})"
    return _mistake(entity, f"{name} is otherwise than version {version} that the ledger has seen", changes, remedy)


def _of_another_kind(entity: type[Entity], seen: Mapping[int, Schema], schema: Schema) -> list[Mistake]:
    if all(one["kind"] == schema["kind"] for one in seen.values()):
        return []
    what = f"{entity.__name__} is an {schema['kind']}, and the ledger has seen it as something else"
    return [_mistake(entity, what, [], "give it another name: it is another thing")]


def _missing(entity: type[Entity], seen: Mapping[int, Schema], schema: Schema) -> list[Mistake]:
    """Steps without an upcaster over which earlier messages would not fit, or not mean the same."""
    version, declared, found = entity.__version__, entity.__upcasters__, []
    for step in range(min(seen, default=version), version):
        if step in declared or not (step in seen or step - 1 in declared):
            continue
        # Without upcasters data stays as it is until the next one takes it, or the entity itself.
        end = next((one for one in range(step + 1, version) if one in declared or one in seen), version)
        becomes = schema if end == version else seen.get(end)
        name, remedy = entity.__name__, f"declare one: @{entity.__name__}.upcaster({step})"
        if step not in seen or becomes is None:
            what = f"{name} has no upcaster of version {step}, of which the ledger knows no schema to compare"
            found.append(_mistake(entity, what, [], remedy))
        elif changes := [one for one in differences(seen[step], becomes) if not one.compatible]:
            what = f"{name} has no upcaster of version {step}, and version {end} is otherwise"
            found.append(_mistake(entity, what, changes, remedy))
    return found


def _mistake(entity: type[Entity], what: str, changes: Iterable[Difference], remedy: str) -> Mistake:
    listed = "; ".join(map(str, changes))
    return Mistake(f"entity {entity.__name__}", f"{what}: {listed}" if listed else what, remedy)


def _note(entity: type[Entity]) -> str:
    return f"schema/{entity.__name__}"
