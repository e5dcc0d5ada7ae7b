"""The ERP: Tryton with its sale and invoice modules on SQLite."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from tieline.demo.children import Child
from tieline.demo.system import CATALOGUE, SEEDS, Access, DemoSystem, Progress, ask

CONFIGURATION = """\
[database]
uri = sqlite://
path = {folder}
[session]
# An integration logs in once and works all day; a wrong password in the demo must not lock it out.
timeout = 86400
max_attempt = 100000
[queue]
# Posting an invoice would also print it, which takes three times as long as all the rest. Left to a worker that
# the demo does not run: an invoice is printed when somebody opens it.
worker = True
"""


class Tryton(DemoSystem):
    """`url` ends with the database's name; JSON-RPC is at `url + "/rpc/"`; see docs/systems/tryton.md."""

    name = "tryton"
    title = "Tryton (ERP)"
    requirements = ("trytond==8.0.*", "trytond_sale==8.0.*", "proteus==8.0.*", "gunicorn")
    seeds = ("catalogue.csv", "erp.py")

    @property
    def url(self) -> str:
        """The server with the database."""
        return f"http://127.0.0.1:{self.port}/demo"

    @property
    def database(self) -> Path:
        """The ERP's own SQLite file."""
        return self.data / "demo.sqlite"

    def _seed(self, folder: Path, access: Access, progress: Progress) -> None:
        progress(self.name, "making its tables and accounts", None)
        configuration = self._configure(folder)
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text(access.password + "\n")
        (folder / "demo.sqlite").touch()  # a SQLite database must exist before Tryton fills it
        try:
            self._run([SEEDS / "erp.py", configuration, CATALOGUE], folder, {"TRYTONPASSFILE": str(password)})
        finally:
            password.unlink()

    def _serve(self) -> Child:
        # One worker: on SQLite nothing would tell a second one that its caches are out of date.
        command = ["-m", "gunicorn", "--workers", "1", "--threads", "4", "--bind", f"127.0.0.1:{self.port}"]
        settings = {"TRYTOND_CONFIG": str(self._configure(self.data)), "TRYTOND_DATABASE_NAMES": "demo"}
        return Child(
            [
                self.environment.python,
                *command,
                "--no-control-socket",
                "--log-level",
                "warning",
                "trytond.application:app",
            ],
            cwd=self.data,
            log=self.log,
            env={"HOME": str(self.data), **settings},
        )

    def _answers(self) -> bool:
        # A login reaches the database; the server itself answers even where the database is broken.
        access = self.access
        question = {
            "id": 1,
            "method": "common.db.login",
            "params": [access.user, {"password": access.password}, "en"],
        }
        return bool((ask(f"{self.url}/rpc/", question) or {}).get("result"))

    def _also(self) -> str:
        return str(datetime.now().astimezone().year)  # fiscal years are seeded around this one

    def _configure(self, folder: Path) -> Path:
        file = folder / "trytond.conf"
        file.write_text(CONFIGURATION.format(folder=folder))
        return file
