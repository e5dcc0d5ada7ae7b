"""Records become entities in canonical form; a record that cannot is a failure of its own."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tieline.conforming import conform
from tieline.connector import Page, Record
from tieline.entity import Entity, digest, encode, key_of, prove, subject_of
from tieline.errors import Reject, TielineError
from tieline.ledger import SeenRow
from tieline.runner.plan import SourcePlan
from tieline.runner.raised import placed, raised

_encoder: Final = msgspec.json.Encoder(decimal_format="string", order="deterministic", enc_hook=repr)

_AT_ONCE: Final = 250  # records between two turns of others, about 3 ms


class Mapped(msgspec.Struct, gc=False):
    """One entity that a record gave."""

    record: str
    record_digest: bytes
    key: str
    subject: str
    data: bytes
    entity: Entity | None = None  # as it is when decoded from `data`, so as every target will see it


@dataclass(slots=True)
class Failure:
    """A record that gave no entity; `raw` is what was read."""

    record: str
    raw: bytes
    reason: str


@dataclass(slots=True)
class MappedPage:
    """A page after mapping. `unchanged` are the records that seen knows as they are."""

    mapped: list[Mapped] = field(default_factory=list)
    unchanged: set[str] = field(default_factory=set)
    failures: list[Failure] = field(default_factory=list)
    read: set[str] = field(default_factory=set)  # records that were mapped without failing


async def map_page(plan: SourcePlan, page: Page, seen: Mapping[str, Sequence[SeenRow]]) -> MappedPage:
    """Map what changed in a page; `seen` has its records' rows. Others get their turn in between."""
    result = MappedPage()
    records = list(dict(zip(page.ids, page.records, strict=True)).items())
    for start in range(0, len(records), _AT_ONCE):
        _map(plan, dict(records[start : start + _AT_ONCE]), seen, result)
        await asyncio.sleep(0)
    result.failures.extend(
        Failure(bad.id, _bytes_of({"place": bad.place, "raw": bad.raw}), str(bad.error)) for bad in page.bad
    )
    return result


def _map(
    plan: SourcePlan, records: Mapping[str, Record], seen: Mapping[str, Sequence[SeenRow]], into: MappedPage
) -> None:
    result = MappedPage()
    for record_id, record in records.items():
        record_digest = digest(_bytes_of(record))
        known = seen.get(record_id)
        if known and all(
            r.record_digest == record_digest and r.mapping == plan.version and not r.gone for r in known
        ):
            result.unchanged.add(record_id)
            continue
        try:
            given = [_mapped(plan, record_id, record_digest, entity) for entity in _listed(plan.function(record))]
        except Exception as error:  # a mapping is the user's code: whatever it raises concerns this record alone
            result.failures.append(_failure(record_id, record, error))
            continue
        result.read.add(record_id)
        result.mapped.extend(given)
    _leave_out_unfit(plan, records, result)
    into.mapped += result.mapped
    into.unchanged |= result.unchanged
    into.failures += result.failures
    into.read |= result.read


def _mapped(plan: SourcePlan, record_id: str, record_digest: bytes, entity: Any) -> Mapped:
    if not isinstance(entity, plan.entity):
        raise Reject(f"the mapping gave {type(entity).__name__} instead of {plan.entity.__name__}")
    return Mapped(record_id, record_digest, key_of(entity), _subject(entity), encode(entity), entity)


def _subject(entity: Entity) -> str:
    return subject_of(entity) if entity.__subject__ else ""


def _listed(given: Entity | Iterable[Entity] | None) -> Iterable[Entity]:
    if given is None:
        return ()
    return (given,) if isinstance(given, Entity) else given


def _leave_out_unfit(plan: SourcePlan, records: Mapping[str, Record], result: MappedPage) -> None:
    """A field that does not fit its declared type is found, and what fits in meaning is made canonical."""
    data = [one.data for one in result.mapped]
    if all(map(bytes.isascii, data)) and conform(plan.entity, [one.entity for one in result.mapped]):
        return
    unfit: dict[str, Reject] = {}
    for one, proved in zip(result.mapped, prove(plan.entity, data), strict=True):
        if isinstance(proved, Reject):
            unfit.setdefault(one.record, proved)
            continue
        one.entity, canonical = entity, _ = proved
        if canonical is not one.data:
            one.data, one.key, one.subject = canonical, key_of(entity), _subject(entity)
    if not unfit:
        return
    result.failures.extend(_failure(record, records[record], error) for record, error in unfit.items())
    result.read -= unfit.keys()
    result.mapped = [m for m in result.mapped if m.record not in unfit]


def _failure(record_id: str, record: Record, error: Exception) -> Failure:
    shown = placed(error) if isinstance(error, TielineError) else f"the mapping {raised(error)}"
    return Failure(record_id, _bytes_of(record), shown)


def _bytes_of(record: Record) -> bytes:
    """Equal for equal records; also where JSON cannot hold one, such as text that was decoded wrongly."""
    try:
        return _encoder.encode(record)
    except (TypeError, ValueError, OverflowError):
        return repr(record).encode("utf-8", "backslashreplace")
