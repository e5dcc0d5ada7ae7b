#!/bin/sh
# All tests, the fast ones first; a failure stops the later, slower groups.
set -eu
cd "$(dirname "$0")/.."
pytest=.venv/bin/pytest
if [ $# -gt 0 ]; then exec "$pytest" "$@"; fi
# Files side by side: most tests wait for a server, a lease or a clock. What kills on a timetable runs alone.
beside="-n ${TIELINE_TEST_WORKERS:-3} --dist loadfile"
"$pytest" $beside -m "not (models or faults or e2e)" --durations=10
"$pytest" $beside -m models
"$pytest" -m faults
"$pytest" -m e2e
