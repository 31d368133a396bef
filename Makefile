# replicad: how to run everything. `make` or `make help` lists the targets.
# Needs Python 3.11 or newer (with venv), git and make; everything else is fetched into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
STAMP := $(VENV)/.installed

SEEDS ?= 1000
MINUTES ?= 60
SECONDS ?= 180
SEED ?=
EXPLORE ?= --states 1000000
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint sim soak explore plants torture bench lab

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

venv: $(STAMP) ## make .venv, and bring it up to date where pyproject.toml has changed

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "replicad needs Python 3.11 or newer, $(PYTHON) is %d.%d: make PYTHON=..." % sys.version_info[:2])'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: venv ## three members on loopback with a folder each, until Ctrl-C (ONCE=1: verify and end)
	@$(RUN) deploy/demo.py

test: venv ## all tests that need no root (ARGS="-k name")
	$(RUN) -m pytest -m "not lab" $(ARGS)

lint: venv ## format, lint, types, and the arrows between the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict replicad
	$(BIN)/lint-imports

sim: venv ## simulate SEEDS=1000 histories under virtual time
	$(RUN) -m tests.sim --seeds $(SEEDS) $(ARGS)

explore: venv ## what two members can do with three operations, each state once (EXPLORE="--turns 1" for less)
	$(RUN) -m tests.explore $(EXPLORE)

soak: venv explore ## the exploration, then simulated histories for MINUTES=60 or SEEDS=100000
	$(RUN) -m tests.sim $(if $(filter file,$(origin SEEDS)),--minutes $(MINUTES),--seeds $(SEEDS)) $(ARGS)

plants: venv ## break the code, one patch at a time; its test must fail (ARGS="name ...")
	$(RUN) -m tests.plants.run $(ARGS)

torture: venv ## as root: five daemons, random acts and mishaps for SECONDS=180, then all is compared (SEED=n)
	$(RUN) -m tests.torture --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: venv ## measure small files, one big file, latency and directory rename between two daemons
	$(RUN) -m tests.bench $(ARGS)

lab: venv ## the tests that need root: containers, namespaces, mounts
	$(RUN) -m pytest -m lab $(ARGS)
