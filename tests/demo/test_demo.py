"""The demo is the product's own end-to-end test: real systems, both ways, an outage, and the proof."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_orders_become_sales_and_invoices_direct_and_over_the_bus_and_the_proof_holds(tmp_path: Path) -> None:
    """`tieline demo --once` ends by itself with exit code 0, and no process of it stays behind."""
    done = subprocess.run(
        [sys.executable, "-m", "tieline", "demo", "--once"],
        capture_output=True,
        text=True,
        timeout=880,
        env={**os.environ, "TMPDIR": str(_open(tmp_path)), "COLUMNS": "200"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "The proof holds" in done.stderr
    sums = set(re.findall(r"\d+\.\d\d EUR", done.stderr))
    assert len(sums) == 1, f"orders, sales, invoices and BI have one sum: {sums}"
    assert list(tmp_path.glob("tieline-demo-*")) == []
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def _open(folder: Path) -> Path:
    """The maintenance system may run as a user of its own, who must be able to pass."""
    for one in (folder, *folder.parents):
        if one.stat().st_uid == os.getuid() and one != Path("/"):
            one.chmod(one.stat().st_mode | 0o011)
    return folder
