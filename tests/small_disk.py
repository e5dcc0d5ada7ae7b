"""A small file system for a test that fills it: only root may mount one."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(megabytes: int) -> Iterator[Path]:
    """A file system in memory, at a folder of its own that every user may write in."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    disk = Path(tempfile.mkdtemp(prefix="tieline-disk-"))
    ran = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tieline-test", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        disk.rmdir()
        pytest.skip(f"no small file system can be mounted here: {ran.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()


def fill(disk: Path) -> Path:
    """Take all the space that is left."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    return ballast
