"""JSON-RPC as Tryton speaks it: models that are searched, read, created, written and taken through steps.

    erp = Adapter(
        JsonRpc(
            sales=Model(
                "sale.sale",
                match="reference",
                fields=["reference", "state", "party", "total_amount"],
                children={"lines": Child("sale.line", parent="sale", fields=["quantity", "unit_price"])},
                actions=["quote", "confirm", "process"],
            )
        )
    )

Everything is in batches: one look-up, one create and one write for all changes, and an action on many
ids at once. docs/connectors/jsonrpc.md has all settings, and what each failure means.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Final

from tieline.connector import (
    Capabilities,
    Change,
    Checkpoint,
    Discovered,
    Page,
    Record,
    Result,
    TargetTransaction,
)
from tieline.connectors._http import Http
from tieline.connectors._jsonrpc_find import Find, Finder
from tieline.connectors._jsonrpc_model import Child, Model
from tieline.connectors._jsonrpc_read import Reader
from tieline.connectors._jsonrpc_write import Writer, matching
from tieline.connectors._tryton import Remote, login_of
from tieline.connectors._tryton_values import tagged
from tieline.errors import ConfigurationError, Hold, Mistake, Reject
from tieline.settings import SystemSettings
from tieline.throttle import Throttle

__all__ = ["Child", "Find", "JsonRpc", "Model"]

_ROWS_AT_ONCE: Final = 500
_BULK: Final = 100
_KEYS: Final = 2_000


class JsonRpc:
    """A JSON-RPC interface: its models by name.

    `path` is below the system's url, which ends with the database's name; or the name stands in the
    system's `options.database` and here as ``{database}``. Further options: `language`, and `context`,
    which is added to the user's own (such as another company).
    """

    def __init__(self, *, path: str = "/rpc/", **models: Model) -> None:
        self.path = path
        self._models = models

    @property
    def resources(self) -> Mapping[str, Model]:
        """The declared models by name."""
        return self._models

    def open(self, system: SystemSettings, throttle: Throttle | None = None) -> "JsonRpcConnector":
        """A connector for one system; connects lazily.

        Raises:
            ConfigurationError: where the settings cannot work.
        """
        path = self.path
        if "{database}" in path:
            database = str(system.options.get("database", ""))
            if not database.replace("-", "").replace("_", "").isalnum():
                where = f"systems.{system.name}.options.database"
                raise ConfigurationError(Mistake(where, f"{database!r} names no database", 'write database = "name"'))
            path = path.replace("{database}", database)
        login = login_of(system, path)
        # Quantities are floats there: an exact JSON number is read as the nearest one.
        http = Http(system, auth=login, decimals="number", throttle=throttle)
        return JsonRpcConnector(self._models, Remote(http, login, system), system.name)

    def identify(self, resource: str, record: Record) -> str:
        """The id of a record as text."""
        return str(record["id"])


class JsonRpcConnector:
    """A connection to one system's models."""

    def __init__(self, models: Mapping[str, Model], remote: Remote, system: str) -> None:
        self._models = models
        self._remote = remote
        self._system = system
        self._checked: set[str] = set()
        self._finder = Finder(remote)

    def capabilities(self, resource: str) -> Capabilities:
        model = self._models[resource]
        return Capabilities(
            incremental=True,
            ordered=True,
            keys=True,
            lookup=True,
            writes=model.writes,
            deletes=model.writes,
            upsert=False,  # nothing there keeps two creates from making two rows
            actions=frozenset(model.actions),
            bulk=_BULK,
        )

    async def check(self) -> None:
        await self._remote.call("model.res.user.get_preferences", True)

    async def discover(self) -> list[Discovered]:
        methods = await self._remote.call("system.listMethods", alone=True)
        suffix = ".search_read"
        names = {method[len("model.") : -len(suffix)] for method in methods if method.endswith(suffix)}
        declared = {model.model for model in self._models.values()}
        found = []
        for name in sorted(names | declared):
            fields = await self._remote.fields(name) if name in declared else {}
            kinds = {field: facts.kind for field, facts in fields.items()}
            found.append(Discovered(name, ("id",), kinds, "model"))
        return found

    async def read(
        self, resource: str, since: Checkpoint = None, scope: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Page]:
        model = self._models[resource]
        await self._verify(model)
        filters = dict(scope or {})
        overlap = timedelta(seconds=float(filters.pop("overlap", 0.0)))
        async for page in Reader(self._remote, model).changed(since, overlap, filters):
            yield page

    async def keys(self, resource: str) -> AsyncIterator[list[str]]:
        model = self._models[resource]
        last = 0
        while True:
            domain = tagged([*model.domain, ["id", ">", last]])
            found = await self._remote.call(f"model.{model.model}.search", domain, 0, _KEYS, [["id", "ASC"]])
            if not found:
                return
            last = found[-1]
            yield [str(row) for row in found]

    def listen(self, resource: str) -> AsyncIterator[Page]:
        raise ConfigurationError(
            Mistake(f"{self._system}.{resource}", "JSON-RPC does not push", 'use a trigger such as "every 5m"')
        )

    async def lookup(self, resource: str, ids: Sequence[str], by: str | None = None) -> list[Record | None]:
        model = self._models[resource]
        await self._verify(model)
        name = by or "id"
        wanted = [id for id in dict.fromkeys(ids) if name != "id" or id.isdecimal()]
        found: dict[str, Record] = {}
        for start in range(0, len(wanted), _ROWS_AT_ONCE):
            part = wanted[start : start + _ROWS_AT_ONCE]
            rows = await matching(self._remote, model, name, part)
            firsts = {same[0]["id"]: value for value, same in rows.items()}
            page = await Reader(self._remote, model).page(list(firsts))
            for bad in page.bad:
                raise bad.error
            found.update((firsts[int(id)], record) for id, record in zip(page.ids, page.records, strict=True))
        return [found.get(id) for id in ids]

    async def write(self, resource: str, changes: Sequence[Change]) -> list[Result]:
        resolved, failed = await self._finder.resolve(changes)
        known = [place for place in range(len(changes)) if place not in failed]
        written = await Writer(self._remote, self._models[resource]).write([resolved[place] for place in known])
        results = failed | dict(zip(known, written, strict=True))
        for place, result in results.items():
            if isinstance(result.error, Reject):
                self._finder.forget(changes[place])
        return [results[place] for place in range(len(changes))]

    async def call(self, resource: str, action: str, target_ids: Sequence[str]) -> list[Result]:
        model = self._models[resource]
        if action not in model.actions:
            known = ", ".join(model.actions) or "none"
            what = f"has no action {action!r} (known: {known})"
            raise ConfigurationError(Mistake(f"{self._system}.{resource}", what, "declare actions=[…]"))
        return await Writer(self._remote, model).act(action, target_ids)

    def transaction(self) -> AbstractAsyncContextManager[TargetTransaction]:
        raise NotImplementedError("JSON-RPC has no transactions; see Capabilities.transactional")

    async def close(self) -> None:
        await self._remote.http.close()

    async def _verify(self, model: Model) -> None:
        """Every declared field is there; asked once."""
        if model.model in self._checked:
            return
        declared = [(model.model, model.fields), *((c.model, [*c.fields, c.parent]) for c in model.children.values())]
        for name, fields in declared:
            known = await self._remote.fields(name)
            missing = [field for field in fields if field.partition(".")[0] not in known and field != "id"]
            if missing:
                raise Hold(f"{self._system}: {name} has no field {', '.join(missing)} → correct the adapter's fields")
        self._checked.add(model.model)
