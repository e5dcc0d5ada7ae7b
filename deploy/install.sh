#!/bin/sh
# Installs Tieline from its source folder into a new environment: what the image is made with, and what a test runs.
#   sh deploy/install.sh SOURCE ENVIRONMENT [PYTHON]
# The lock file says which versions; only what runs is installed, nothing that tests need.
set -eu
source=$1 environment=$2 python=${3:-python3}
"$python" -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir \
  --constraint "$source/requirements.lock" "$source[nats,rabbitmq,kafka]"
