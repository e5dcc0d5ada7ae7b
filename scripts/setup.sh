#!/bin/sh
# An environment in the checkout: by uv where it is present, else by venv and pip.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
if command -v uv >/dev/null 2>&1; then
  [ -x .venv/bin/python ] || uv venv --quiet --seed --python "$PYTHON" .venv
  uv pip install --quiet --python .venv/bin/python -r requirements.lock
  uv pip install --quiet --python .venv/bin/python --no-deps --editable .
else
  [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
fi
