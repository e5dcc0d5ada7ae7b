"""What the image installs, without an image: by the same step, on this machine."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.conftest import missing
from tests.deploy.test_files import DEPLOY, steps
from tests.docs.pages import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]  # on a busy machine an installation takes its time


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
