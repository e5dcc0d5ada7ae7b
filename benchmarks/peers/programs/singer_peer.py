"""Singer: tap-postgres piped into target-postgres, flat and without a mapping; as a runner such as Meltano does it.

The tap reads orders by their replication key, and their lines as a whole table: a tap knows tables, not orders.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

DSN = os.environ["PEER_DSN"]
FOLDER = Path(os.environ["PEER_FOLDER"])
TAP, TARGET = os.environ["PEER_TAP"], os.environ["PEER_TARGET"]
PSQL = os.environ["PEER_PSQL_PYTHON"]
SCHEMA = "bench_singer"
TAP_CONFIG = {
    "sqlalchemy_url": DSN.replace("postgresql://", "postgresql+psycopg2://"),
    "filter_schemas": ["bench_source"],
}
TARGET_CONFIG = {
    "sqlalchemy_url": DSN.replace("postgresql://", "postgresql+psycopg://"),
    "default_target_schema": SCHEMA,
    "use_copy": True,
    "load_method": "upsert",
    "add_record_metadata": False,
    "activate_version": False,
    "validate_records": False,
    "batch_size_rows": 10_000,
}


def catalog() -> Path:
    """What the tap found, with the two streams chosen."""
    made = FOLDER / "catalog.json"
    if not made.exists():
        found = subprocess.run(
            [TAP, "--config", str(FOLDER / "tap.json"), "--discover"], capture_output=True, check=True
        )
        streams = json.loads(found.stdout)["streams"]
        for stream in streams:
            by_key = stream["tap_stream_id"].endswith("-orders")
            stream["replication_method"] = "INCREMENTAL" if by_key else "FULL_TABLE"
            if by_key:
                stream["replication_key"] = "changed"
            for part in stream["metadata"]:
                part["metadata"]["selected"] = True
                if not part["breadcrumb"]:
                    part["metadata"]["replication-method"] = stream["replication_method"]
                    if by_key:
                        part["metadata"]["replication-key"] = "changed"
        made.write_text(json.dumps({"streams": streams}))
    return made


def pipe() -> int:
    """One run; the last state that the target gave is kept for the next."""
    state = FOLDER / "state.json"
    with_state = ["--state", str(state)] if state.exists() else []
    tap = subprocess.Popen(
        [TAP, "--config", str(FOLDER / "tap.json"), "--catalog", str(catalog()), *with_state],
        stdout=subprocess.PIPE,
    )
    target = subprocess.Popen(
        [TARGET, "--config", str(FOLDER / "target.json")], stdin=tap.stdout, stdout=subprocess.PIPE, text=True
    )
    assert tap.stdout is not None
    assert target.stdout is not None
    tap.stdout.close()
    for line in target.stdout:
        if line.strip():
            new = state.with_suffix(".new")
            new.write_text(line)
            new.replace(state)
    return tap.wait() or target.wait()


def sql(statement: str) -> None:
    """Run a statement; this program has no packages of its own."""
    call = f"import psycopg; psycopg.connect({DSN!r}, autocommit=True).execute({statement!r})"
    subprocess.run([PSQL, "-c", call], check=True)


def prepare() -> int:
    """Make the tables by a first run, empty them, and see how long a pipe takes that has nothing to do."""
    sql(f"drop schema if exists {SCHEMA} cascade")
    code = pipe()
    sql("truncate bench_source.orders, bench_source.order_lines")
    began = time.monotonic()
    code = code or pipe()
    (FOLDER / "idle_s").write_text(str(time.monotonic() - began))
    (FOLDER / "state.json").unlink(missing_ok=True)
    sql(f"truncate {SCHEMA}.orders, {SCHEMA}.order_lines")
    return code


if __name__ == "__main__":
    (FOLDER / "tap.json").write_text(json.dumps(TAP_CONFIG))
    (FOLDER / "target.json").write_text(json.dumps(TARGET_CONFIG))
    if sys.argv[1] == "prepare":
        sys.exit(prepare())
    catalog()  # discovery is done once, not for each run
    print(f"peer began {time.monotonic()}", flush=True)
    sys.exit(pipe())
