"""A connection through which nothing can be changed."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

from tieline.connector import (
    Capabilities,
    Change,
    Checkpoint,
    Connector,
    Discovered,
    HeldRow,
    Page,
    Record,
    Result,
    TargetTransaction,
)
from tieline.errors import ConfigurationError, Mistake


class ReadOnly:
    """A connector that reads, and refuses everything else. It belongs to whoever opened what is behind it."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    def capabilities(self, resource: str) -> Capabilities:
        """See `Connector`."""
        return self._connector.capabilities(resource)

    async def check(self) -> None:
        """See `Connector`."""
        await self._connector.check()

    async def discover(self) -> list[Discovered]:
        """See `Connector`."""
        return await self._connector.discover()

    def read(
        self, resource: str, since: Checkpoint = None, scope: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Page]:
        """See `Connector`."""
        return self._connector.read(resource, since, scope)

    def keys(self, resource: str) -> AsyncIterator[list[str]]:
        """See `Connector`."""
        return self._connector.keys(resource)

    def listen(self, resource: str) -> AsyncIterator[Page]:
        """See `Connector`."""
        return self._connector.listen(resource)

    async def lookup(self, resource: str, ids: Sequence[str], by: str | None = None) -> list[Record | None]:
        """See `Connector`."""
        return await self._connector.lookup(resource, ids, by)

    async def held(self, entity: str, keys: Sequence[str]) -> list[HeldRow]:
        """What a target that keeps held itself has of these keys: a transaction in which nothing else is done."""
        async with self._connector.transaction() as tx:
            return await tx.held(entity, keys)

    async def write(self, resource: str, changes: Sequence[Change]) -> list[Result]:
        """Refused."""
        _refuse()

    async def call(self, resource: str, action: str, target_ids: Sequence[str]) -> list[Result]:
        """Refused."""
        _refuse()

    def transaction(self) -> AbstractAsyncContextManager[TargetTransaction]:
        """Refused; see `held`."""
        _refuse()

    async def close(self) -> None:
        """Nothing: others use it."""


def _refuse() -> NoReturn:
    raise ConfigurationError(
        Mistake("a shadow", "was about to change its target, and may only look", "report this: it is a defect")
    )
