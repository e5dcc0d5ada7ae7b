"""dlt: the same mapping in a resource of pages, merged into PostgreSQL with a child table."""

import os
import sys

import dlt
import job
import psycopg

os.environ["DLT_DATA_DIR"] = str(job.FOLDER)
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"
os.environ["LOAD__WORKERS"] = "2"
os.environ["NORMALIZE__DATA_WRITER__BUFFER_MAX_ITEMS"] = "20000"
os.environ["EXTRACT__DATA_WRITER__BUFFER_MAX_ITEMS"] = "20000"
DATASET = "bench_dlt"


@dlt.resource(
    name="sales",
    primary_key="reference",
    write_disposition={"disposition": "merge", "strategy": "upsert"},
    columns={
        "amount": {"data_type": "decimal", "precision": 12, "scale": 2},
        "ordered_at": {"data_type": "timestamp"},
    },
    file_format="csv",
)
def sales(changed=dlt.sources.incremental("version", initial_value=0)):  # type: ignore[no-untyped-def]
    """Pages of mapped orders, from where the last run ended."""
    cursor = job.Cursor()
    cursor.value = changed.last_value
    for page in job.pages(cursor):
        yield [
            {
                "reference": order.number,
                "party": order.customer,
                "mail": order.email,
                "ordered_at": order.placed_at,
                "currency": order.currency,
                "amount": order.total,
                "state": order.status,
                "version": order.version,
                "lines": [
                    {
                        "position": line.number,
                        "product": line.sku,
                        "description": line.title,
                        "quantity": line.quantity,
                        "unit_price": line.price,
                    }
                    for line in order.lines
                ],
            }
            for order in page
        ]
        cursor.value = page[-1].version


def pipeline() -> dlt.Pipeline:
    """Its working folder is the run's own."""
    return dlt.pipeline(
        pipeline_name="orders",
        destination=dlt.destinations.postgres(job.DSN),
        dataset_name=DATASET,
        pipelines_dir=str(job.FOLDER / "pipelines"),
    )


if __name__ == "__main__":
    role = job.asked("publish", "prepare")
    if role == "prepare":
        with psycopg.connect(job.DSN, autocommit=True) as db:
            db.execute(f"drop schema if exists {DATASET} cascade")
            db.execute(f"drop schema if exists {DATASET}_staging cascade")
    pipeline().run(sales())
    if role == "prepare":
        # The tables stay, as after a first run; what it loaded and remembers does not.
        with psycopg.connect(job.DSN, autocommit=True) as db:
            for table in ("sales", "sales__lines", "_dlt_loads", "_dlt_pipeline_state"):
                db.execute(f"truncate {DATASET}.{table}")
    sys.exit(0)
