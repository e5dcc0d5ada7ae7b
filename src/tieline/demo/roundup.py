"""Maintenance: a Roundup tracker whose issues name the asset they are about."""

from __future__ import annotations

import configparser
import hashlib
import os
import pwd
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from tieline.demo.children import Child, DemoFailed, is_running
from tieline.demo.system import SEEDS, Access, DemoSystem, Progress, ask, basic

UNPRIVILEGED = "nobody"
SHARED = Path("/var/cache/tieline/demo")  # where nobody can read what root's home hides
SYSTEM_PYTHONS = ("/usr/local/bin/python3", "/usr/bin/python3")
ISSUE = 'issue = IssueClass(db, "issue",\n'
SETTINGS = {
    ("tracker", "name"): "Kestrel maintenance",
    ("web", "api_failed_login_limit"): "1000",
    ("mail", "debug"): "/dev/null",  # notifications go nowhere: there is no mail server
}


class Roundup(DemoSystem):
    """`url` ends with the tracker's name; REST is at `url + "/rest/data/"`; see docs/systems/roundup.md.

    Roundup refuses to run as root. Started by root it runs as `nobody`, with an environment and a folder that
    `nobody` can reach: below the given folders where that is so, else below /var/cache.
    """

    name = "roundup"
    title = "Roundup (maintenance)"
    requirements = ("roundup==2.6.*",)
    seeds = ("tracker.py",)

    def __init__(self, home: Path, work: Path, *, port: int | None = None) -> None:
        self._as = UNPRIVILEGED if os.getuid() == 0 else None
        super().__init__(home if self._as is None or is_reachable(home) else SHARED, work, port=port)
        self._borrowed: Path | None = None
        if self._as is None:
            return
        self.environment = replace(self.environment, base=python_for_all())
        if not is_reachable(work):
            self._borrowed = SHARED / f"run-{os.getpid()}-{hashlib.sha256(bytes(work.absolute())).hexdigest()[:8]}"
            self.data = self._borrowed / self.name

    @property
    def url(self) -> str:
        """The tracker."""
        return f"http://127.0.0.1:{self.port}/demo"

    @property
    def database(self) -> Path:
        """The tracker's own SQLite file."""
        return self.data / "tracker" / "db" / "db"

    def forget(self) -> None:
        """Remove the folder that had to be outside the work folder, and those of demos that were killed."""
        if self._borrowed is None:
            return
        shutil.rmtree(self._borrowed, ignore_errors=True)
        for folder in SHARED.glob("run-*-*"):
            if not is_running(int(folder.name.split("-")[1])):
                shutil.rmtree(folder, ignore_errors=True)

    def prepare(self, progress: Progress) -> None:
        """As every system; besides, the data is put where its user can reach it."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        super().prepare(progress)

    def _seed(self, folder: Path, access: Access, progress: Progress) -> None:
        progress(self.name, "making its tracker", None)
        tracker = folder / "tracker"
        admin = self.environment.python.with_name("roundup-admin")
        web = "tracker_web=http://127.0.0.1:1/demo/,mail_domain=kestrel.example,mail_host=127.0.0.1"
        self._run([admin, "-i", tracker, "install", "classic", "sqlite", web], folder, {})
        schema = tracker / "schema.py"
        text = schema.read_text()
        if ISSUE not in text:
            raise DemoFailed(f"{self.title}: its schema has no issue class where it was expected ({schema}).")
        schema.write_text(text.replace(ISSUE, ISSUE + "                asset=String(),\n"))
        configure(tracker / "config.ini", SETTINGS)
        self._run([SEEDS / "tracker.py", tracker], folder, {"TRACKER_PASSWORD": access.password})

    def _serve(self) -> Child:
        tracker = self.data / "tracker"
        configure(tracker / "config.ini", {("tracker", "web"): f"{self.url}/"})
        tracker.chmod(0o700)
        if self._as is not None:
            self.data.chmod(0o711)
            give(tracker, self._as)
        server = self.environment.python.with_name("roundup-server")
        options = ["-n", "127.0.0.1", "-p", str(self.port), "-t", "thread", f"demo={tracker}"]
        return Child(
            [self.environment.python, server, *options],
            cwd=self.data,
            log=self.log,
            env={"HOME": str(tracker)},
            user=self._as,
        )

    def _answers(self) -> bool:
        access = self.access
        return ask(f"{self.url}/rest/data/priority", headers=basic(access.user, access.password)) is not None


def configure(file: Path, settings: dict[tuple[str, str], str]) -> None:
    """Change settings of a tracker's config.ini; its comments stay."""
    parser = configparser.RawConfigParser()
    parser.read(file)
    lines, section = [], ""
    for line in file.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[] ")
        name = line.partition("=")[0].strip()
        value = settings.get((section, name))
        lines.append(line if value is None or line.startswith("#") else f"{name} = {value}")
    file.write_text("\n".join(lines) + "\n")


def is_reachable(path: Path) -> bool:
    """Whether any user may read below the path, as far as its folders exist already."""
    path = path.absolute()
    existing = [folder for folder in (path, *path.parents) if folder.exists()]
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in existing)


def python_for_all() -> str:
    """A Python that any user may run.

    Raises:
        DemoFailed: where there is none.
    """
    for candidate in (sys.executable, *SYSTEM_PYTHONS):
        real = Path(candidate).resolve()
        if real.exists() and is_reachable(real):
            return str(real) if candidate == sys.executable else candidate
    raise DemoFailed(
        "Roundup refuses to run as root, and no Python here can be run by another user. "
        "Start the demo as an ordinary user, or install the system's python3."
    )


def give(folder: Path, user: str) -> None:
    """Make the user the owner of a folder and all in it."""
    owner = pwd.getpwnam(user)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid)
