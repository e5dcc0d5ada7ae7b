"""Writing to a REST interface: one call per record, several at once, a key's changes in order."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tieline.connector import Change, Record, Result
from tieline.connectors._bulk import behind, failed, following, stops
from tieline.connectors._http import Http, Reply, together
from tieline.connectors._http_errors import Effect, unanswered
from tieline.connectors._paging import at
from tieline.connectors._rest_resource import Resource
from tieline.errors import Reject, TielineError

_GONE: Final = frozenset({404, 410})

_One = Callable[[int, int | None, Result | None], Awaitable[Result]]
"""Writes the change at a place, after the one at another place of the same key and its result."""

Find = Callable[[str], Awaitable[Mapping[str, Record]]]
"""The records, by id, whose match field has this value."""


class Writer:
    """Writes one resource of one system; a writer lives for one batch."""

    def __init__(self, http: Http, resource: Resource, find: Find) -> None:
        self._http = http
        self._resource = resource
        self._find = find
        self._stop: TielineError | None = None

    async def write(self, changes: Sequence[Change]) -> list[Result]:
        """One result per change, in order. After an outage nothing more is sent."""
        by_key: dict[str, list[int]] = {}
        for place, change in enumerate(changes):
            by_key.setdefault(change.key, []).append(place)
        twins = self._twins(changes)

        async def one(place: int, before: int | None, earlier: Result | None) -> Result:
            if place in twins:
                raise twins[place]
            return await self._one(following(changes[place], None if before is None else changes[before], earlier))

        return await self._spread(by_key.values(), one)

    async def act(self, action: str, ids: Sequence[str]) -> list[Result]:
        """Take an action on each record."""
        path = self._resource.actions[action]

        async def one(place: int, *_: object) -> Result:
            address = self._resource.place(ids[place], path)
            reply = await self._http.call("POST", address, Effect.ONCE)
            return self._written(reply, ids[place])

        return await self._spread([[place] for place in range(len(ids))], one)

    async def _spread(self, groups: Iterable[list[int]], one: _One) -> list[Result]:
        """Groups side by side, each in its order; after an outage nothing more is sent."""
        results: dict[int, Result] = {}
        waiting = iter(list(groups))

        async def work() -> None:
            for group in waiting:
                for before, place in zip([None, *group], group, strict=False):
                    earlier = None if before is None else results[before]
                    error = self._stop or behind(earlier)
                    results[place] = Result(error=error) if error else await self._result(one(place, before, earlier))

        await together(work() for _ in range(self._http.limits.at_once))
        return [results[place] for place in range(len(results))]

    async def _result(self, written: Awaitable[Result]) -> Result:
        try:
            return await written
        except TielineError as failure:
            result = failed(failure)
            self._stop = self._stop or stops(result)
            return result

    def _twins(self, changes: Sequence[Change]) -> dict[int, Reject]:
        """Changes of different keys that would both find nothing and make one record twice."""
        match = self._resource.match
        first: dict[str, str] = {}
        twins = {}
        for place, change in enumerate(changes):
            value = None if change.record is None or match is None else at(change.record, match)
            if change.target_id is None and value is not None:
                other = first.setdefault(str(value), change.key)
                if other != change.key:
                    twins[place] = Reject(f"{other!r} has the same; correct one of the two", field=match, value=value)
        return twins

    async def _one(self, change: Change) -> Result:
        target_id, record = change.target_id, change.record
        if target_id is None and self._resource.match is not None:
            target_id = await self._matched(change.key if record is None else at(record, self._resource.match))
        if record is None:
            return await self._delete(target_id)
        if target_id is None:
            return await self._create(record, change)
        return await self._update(record, target_id, change.version_tag)

    async def _matched(self, value: Any) -> str | None:
        match = self._resource.match
        if value is None or value == "":
            raise Reject("finds the record there and is empty", field=match, value=value)
        found = await self._find(str(value))
        if len(found) > 1:
            ids = ", ".join(sorted(found)[:5])
            raise Reject(f"several records there have it: {ids}; merge them there", field=match, value=value)
        return next(iter(found), None)

    async def _create(self, record: Record, change: Change) -> Result:
        resource = self._resource
        if resource.create is None:
            raise Reject("is not there, and this interface takes no new records", field="key", value=change.key)
        if resource.create == "PUT":
            target_id = resource.identify(record)
            reply = await self._send("PUT", resource.place(target_id), Effect.REPEAT, record)
            return self._written(reply, target_id)
        headers = {resource.idempotency: change.message_id.hex()} if resource.idempotency else {}
        effect = Effect.ONCE if resource.filters else Effect.BLIND
        reply = await self._send("POST", resource.path, Effect.REPEAT if headers else effect, record, headers)
        result = self._written(reply, None)
        if result.target_id is None and resource.match is not None:
            found = await self._matched(at(record, resource.match))
            return Result(found, result.version_tag)
        return result

    async def _update(self, record: Record, target_id: str, tag: str | None) -> Result:
        if self._resource.update is None:
            raise Reject("is there, and this interface takes no changes", field="id", value=target_id)
        headers = {"If-Match": tag} if tag is not None and self._resource.etag else {}
        reply = await self._send(
            self._resource.update, self._resource.place(target_id), Effect.REPEAT, record, headers
        )
        return self._written(reply, target_id)

    async def _delete(self, target_id: str | None) -> Result:
        if not self._resource.delete:
            raise Reject("this interface deletes nothing; say in the sink what a delete means there (delete=…)")
        if target_id is None:
            if self._resource.match is None:
                raise Reject("nothing tells which record there this was; declare match=…")
            return Result()
        await self._http.call("DELETE", self._resource.place(target_id), Effect.REPEAT, understood=_GONE)
        return Result(target_id)

    async def _send(
        self, method: str, place: str, effect: Effect, record: Record, headers: Mapping[str, str] | None = None
    ) -> Reply:
        body = wrapped(record, self._resource.wrap)
        return await self._http.call(method, place, effect, body=body, headers=headers, about=record)

    def _written(self, reply: Reply, known: str | None) -> Result:
        """What a successful write tells: the record's id and version tag."""
        tag = reply.headers.get("ETag") if self._resource.etag else None
        if known is not None and reply.body.lstrip()[:1] != b"<":
            return Result(known, tag)  # some systems answer a change with a bare word
        stored = unwrapped(reply.json(), self._resource.wrap)
        if isinstance(stored, dict):
            try:
                return Result(self._resource.identify(stored), tag)
            except Reject:
                pass
        if known is not None:
            return Result(known, tag)
        location = reply.headers.get("Location", "").partition("?")[0].rstrip("/")
        if location:
            return Result(location.rpartition("/")[2], tag)
        if self._resource.match is not None:
            return Result(None, tag)
        shown = msgspec.json.encode(stored).decode()[:200]
        raise unanswered(reply.call, f"it took the record and gave no id: {shown}", reply.effect, sent=True)


def wrapped(record: Record, wrap: str) -> Record:
    """A single record under the name it is wrapped in, or under names one inside the other."""
    for name in reversed(wrap.split(".")) if wrap else ():
        record = {name: record}
    return record


def unwrapped(body: Any, wrap: str) -> Any:
    """A single record out of the name it is wrapped in."""
    return at(body, wrap) if wrap else body
