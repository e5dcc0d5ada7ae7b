"""Writing a state file: rows are merged by id, and the new file takes the old one's place at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tieline.connector import Change, Record, Result
from tieline.connectors.files.disk import locked, replacing, translated
from tieline.connectors.files.part import Part, UnreadableFile, name_of
from tieline.connectors.files.places import FirstPlaces
from tieline.connectors.files.reading import fields_of, parts_of
from tieline.connectors.files.resources import Csv, Resource
from tieline.connectors.files.writing import format_of, settled
from tieline.errors import Reject, TielineError, Unavailable


@dataclass(slots=True)
class _Wish:
    """What is to become of one row: fields to set, whether over the old row, and whether it is to stay."""

    fields: Record = field(default_factory=dict)
    over: bool = True
    stays: bool = True


class StateWriter:
    """Writes one state file. Every write rewrites it, so a batch costs what the file is long."""

    def __init__(self, path: Path, resource: Resource) -> None:
        self._path = path
        self._resource = resource
        self._format = format_of(resource)

    def write(self, changes: Sequence[Change]) -> list[Result]:
        """One result per change; a change that cannot be written leaves the others alone."""
        try:
            with locked(self._path):
                return self._write(changes)
        except UnreadableFile as error:
            failure: TielineError = Unavailable(f"{error}; nothing was written")
        except TielineError as error:
            failure = error
        except OSError as error:
            failure = translated(error, name_of(self._path))
        return [Result(change.target_id, error=failure) for change in changes]

    def _write(self, changes: Sequence[Change]) -> list[Result]:
        exists = self._path.exists()
        columns = self._columns(exists, changes)
        wishes: dict[str, _Wish] = {}
        results = [self._note(change, columns, wishes) for change in changes]
        if not wishes:
            return results
        with replacing(self._path) as file:
            rows = self._format.rows(file, columns)
            for part in self._old() if exists else ():
                rows.add([record for one, record in self._merged(part, wishes) if one])
            rows.add([wish.fields for wish in wishes.values() if wish.stays])
            rows.end()
        return results

    def _merged(self, part: Part, wishes: dict[str, _Wish]) -> Iterator[tuple[bool, Record]]:
        for one, record in zip(part.ids, part.records, strict=True):
            wish = wishes.pop(one, None)
            if wish is None:
                yield True, record
            elif wish.stays:
                yield True, {**record, **wish.fields} if wish.over else wish.fields

    def _old(self) -> Iterator[Part]:
        places = FirstPlaces()
        try:
            for part in parts_of(self._path, self._resource, [name_of(self._path)], places):
                if part.bad:  # rewriting would lose what nobody has read
                    raise Unavailable(f"{part.bad[0].error}; nothing was written")
                yield part
        finally:
            places.close()

    def _columns(self, exists: bool, changes: Sequence[Change]) -> Sequence[str]:
        if not isinstance(self._resource, Csv):
            return ()
        if exists:
            return fields_of(self._path, self._resource, name_of(self._path))
        if self._resource.columns:
            return list(self._resource.columns)
        return list(next((change.record for change in changes if change.record is not None), ()))

    def _note(self, change: Change, columns: Sequence[str], wishes: dict[str, _Wish]) -> Result:
        try:
            if change.record is None:
                one = change.target_id or change.key
                wishes[one] = _Wish(over=False, stays=False)
                return Result(one)
            one, record = self._identified(change.record, change.target_id)
            settled(self._resource, columns, record)
            prepared = self._format.prepare(record)
        except Reject as error:
            return Result(change.target_id, error=error)
        earlier = wishes.get(one)
        if earlier is None:
            wishes[one] = _Wish(prepared)
        elif earlier.stays:
            earlier.fields |= prepared
        else:
            wishes[one] = _Wish(prepared, over=False)
        return Result(one)

    def _identified(self, record: Record, target_id: str | None) -> tuple[str, Record]:
        """The id of the row, and the record with it."""
        keys = self._resource.keys
        if target_id is not None and all(record.get(key) is None for key in keys):
            if len(keys) > 1:
                raise Reject("the record lacks the fields that identify it", field=keys[0])
            return target_id, {keys[0]: target_id, **{k: v for k, v in record.items() if k != keys[0]}}
        one = self._resource.identify(record)
        if target_id is not None and one != target_id:
            raise Reject(f"a row of a file keeps its id, {target_id!r}; delete it and make another", value=one)
        return one, record
