#!/bin/sh
# All tests, the fast ones first; a failure stops the later, slower groups.
set -eu
cd "$(dirname "$0")/.."
pytest=.venv/bin/pytest
if [ $# -gt 0 ]; then exec "$pytest" "$@"; fi
"$pytest" -m "not (models or faults or e2e)" --durations=10
"$pytest" -m models
"$pytest" -m faults
"$pytest" -m e2e
