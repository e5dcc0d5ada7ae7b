# Every verb sets up what it needs. `make` alone lists them.
PYTHON ?= python3
RUN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench scale faults services docs lock

help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/ready  ## an environment in this checkout, with the versions of the lock file

.venv/ready: requirements.lock pyproject.toml scripts/setup.sh
	@PYTHON=$(PYTHON) sh scripts/setup.sh
	@touch .venv/ready

demo: setup  ## a small company: a real shop, ERP and maintenance system, connected (ARGS=--once ends by itself)
	@$(RUN)/tieline demo $(ARGS)

test: setup  ## everything that proves a promise, fast ones first (ARGS="-k parked" for some)
	@sh scripts/test.sh $(ARGS)

check: setup  ## types, style, import directions
	@$(RUN)/ruff check src tests benchmarks
	@$(RUN)/ruff format --check src tests benchmarks
	@$(RUN)/mypy
	@$(RUN)/lint-imports

bench: setup  ## the order workload against the raw limit and a bare loop; writes benchmarks/latest.json
	@$(RUN)/python -m benchmarks.run $(ARGS)

scale: setup  ## what sizes cost: ARGS="idle --flows 1000" for a worker in which nothing happens
	@$(RUN)/python -m benchmarks.scale $(ARGS)

bench-peers: setup  ## the same against FastStream, Celery, Dramatiq, dlt, Singer, Node-RED; writes benchmarks/peers.json
	@$(RUN)/python -m benchmarks.peers.run $(ARGS)

faults: setup  ## every kill, freeze and cut, at length
	@TIELINE_FAULTS=long $(RUN)/pytest tests/faults -s $(ARGS)

services: setup  ## bring what tests use and no wheel brings (RabbitMQ, iproute2; as root)
	@$(RUN)/python scripts/services.py $(ARGS)

docs: setup  ## write the reference from the code
	@$(RUN)/python scripts/reference.py $(ARGS)

lock: setup  ## pin the newest versions that fit
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(RUN)/uv pip compile -q --universal --no-header --no-annotate --no-emit-index-url --group dev --extra testing --extra nats --extra rabbitmq --extra kafka pyproject.toml -o requirements.lock
