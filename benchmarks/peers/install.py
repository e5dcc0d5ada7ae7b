"""Each peer in an environment of its own beside the checkout's, with pinned versions; none is a dependency."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.lines import NODE, TIELINE

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".venv-peers"
PARTS = {"singer": ("singer-tap", "singer-target")}


def python_of(environment: str) -> Path:
    """The interpreter of an environment."""
    return ENVIRONMENTS / environment / "bin" / "python"


def install(environment: str) -> None:
    """Make the environment, where its lock changed or it is not there yet.

    Raises:
        RuntimeError: with what the installer said.
    """
    if environment == TIELINE:
        return
    if environment == NODE:
        _node()
        return
    for part in PARTS.get(environment, (environment,)):
        _python(part)


def _python(name: str) -> None:
    lock = HERE / "locks" / f"{name}.txt"
    folder = ENVIRONMENTS / name
    if _is_ready(folder, lock):
        return
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--no-deps", "-r", str(lock)])
    _ready(folder, lock)


def _node() -> None:
    packages = HERE / "locks" / "package.json"
    folder = ENVIRONMENTS / NODE
    if _is_ready(folder, packages):
        return
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is not installed")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(packages, folder)
    _run([npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)])
    _ready(folder, packages)


def _digest(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def _is_ready(folder: Path, lock: Path) -> bool:
    ready = folder / "ready"
    return ready.exists() and ready.read_text() == _digest(lock)


def _ready(folder: Path, lock: Path) -> None:
    (folder / "ready").write_text(_digest(lock))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:5])}: {(done.stdout + done.stderr)[-1_500:]}")
