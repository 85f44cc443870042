# Everything a person or a script does with this repository. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Settings, as in `make serve PORT=9000`. HOST is not taken from the environment, where some
# shells keep the name of the machine in it.
HOST = 127.0.0.1
PORT ?= 8000
INDEX ?= index
PYTHON ?= python3
TORCH_INDEX ?=
SET ?=
KILLS ?= 300
CUTS ?= 2000
SEED ?=
EXAMPLES ?= 500
LOAD ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check --no-input
READY := .venv/.ready
UNFINISHED := .venv/.unfinished

# The articles of the default archive, and the mark that says they are in the archive INDEX. They go
# into the default folder, into a new one and into one they went into before: never into an archive
# that someone else has begun.
ARTICLES := $(filter-out seeds/SOURCES%.md,$(wildcard seeds/*.md))
SEEDED := .venv/.seeded-$(shell printf %s '$(abspath $(INDEX))' | cksum | tr ' ' -)
BUILT := $(shell test -e '$(INDEX)/library.db' && echo yes)
OURS := $(or $(filter index,$(INDEX)),$(if $(BUILT),$(wildcard $(SEEDED)*),new))

# A question reaches the shell as it was typed, with every quote and dollar sign in it.
override Q := $(value Q)
export Q

.PHONY: help setup archive serve ask question test torture power machine fuzz check format eval \
    eval-check baseline load lock audit clean \
    FORCE

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  Settings: HOST=$(HOST) PORT=$(PORT) INDEX=$(INDEX) PYTHON=$(PYTHON) TORCH_INDEX=$(TORCH_INDEX)"
	@echo "  TORCH_INDEX is the address of a package index with CPU builds of torch, which are smaller."

setup: $(READY) ## install everything into .venv, once
	@:

archive: $(READY) $(if $(OURS),$(SEEDED)) ## build the archive from seeds/, once
	@:

serve: archive ## serve the archive and its page at http://HOST:PORT
	@exec $(BIN)/rag serve --index '$(INDEX)' --host '$(HOST)' --port '$(PORT)'

ask: question archive ## answer a question: make ask Q="who warned of spillover and when"
	@exec $(BIN)/rag ask --index '$(INDEX)' -- "$$Q"

question:
	@[[ -n "$$Q" ]] || { echo 'Say what to ask: make ask Q="who warned of spillover and when"' >&2; exit 2; }

test: $(READY) ## run the tests, with branch coverage
	@$(BIN)/python -m pytest --cov --cov-branch

torture: $(READY) ## kill a writer KILLS=300 times at random moments, SEED=N for the same again
	@RAG_TORTURE_KILLS=$(KILLS) RAG_TORTURE_SEED=$(SEED) $(BIN)/python -m pytest -s -q \
	    tests/test_torture.py

power: $(READY) ## cut a writer's power CUTS=2000 times, in all ways that a disk may take it
	@RAG_POWER_CUTS=$(CUTS) RAG_POWER_SEED=$(SEED) $(BIN)/python -m pytest -v tests/test_power.py

machine: $(READY) ## longer random sequences of calls against a model of the archive; EXAMPLES=500
	@MACHINE_EXAMPLES=$(EXAMPLES) MACHINE_STEPS=50 $(BIN)/python -m pytest \
	    --hypothesis-profile=chance tests/test_machine.py

fuzz: $(READY) ## ask every call by its description and harm by chance for longer, some ten minutes
	@RAG_FUZZ_EXAMPLES=500 $(BIN)/python -m pytest -s --hypothesis-profile=chance \
	    tests/test_openapi.py tests/test_hostile.py

check: $(READY) ## what a change must pass: format, lint, types, layers, tests, no worse answers
	@echo "Format"; $(BIN)/ruff format --quiet --check . || { echo "Run: make format"; exit 1; }
	@echo "Lint";   $(BIN)/ruff check --quiet .
	@echo "Types";  $(BIN)/mypy --no-error-summary
	@echo "Layers"; $(BIN)/lint-imports > .venv/layers.txt || { cat .venv/layers.txt; exit 1; }
	@echo "Tests";  $(MAKE) test
	@echo "Answers"; $(MAKE) eval-check

format: $(READY) ## put the code into the house format
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

eval: archive ## measure the answers: the project's own questions, or SET=FOLDER in BEIR form
	@$(BIN)/rag eval $(if $(SET),'$(SET)',--index '$(INDEX)')

eval-check: $(READY) ## fail if answers to the project's own questions got significantly worse
	@$(BIN)/rag eval --articles seeds --compare eval/baseline.json --fail-on-loss

baseline: $(READY) ## write what eval-check compares with anew, after a change that is meant
	@$(BIN)/rag eval --articles seeds --write-baseline eval/baseline.json

load: archive ## hold a server well beyond its capacity for a while: fails unless it sheds and stays level
	@$(BIN)/python eval/load.py --index '$(INDEX)' $(LOAD)

lock: ## write constraints.txt anew; torch stays as it is pinned there
	@echo "Resolving in a new environment (takes a few minutes)"
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@grep '^torch==' constraints.txt > build/lock/torch.txt
	@$(subst $(BIN),build/lock/bin,$(INSTALL_TORCH)) -r build/lock/torch.txt
	@$(subst $(BIN),build/lock/bin,$(PIP)) install -c build/lock/torch.txt -e '.[dev]'
	@{ sed '/^[^#]/,$$d' constraints.txt; build/lock/bin/python -m pip freeze --exclude-editable \
	    | sed -E 's/\+cpu$$//; /^(nvidia|cuda|triton)/d'; } > build/lock/constraints.txt
	@mv build/lock/constraints.txt constraints.txt && rm -rf build/lock
	@echo "Wrote constraints.txt"

# --strict: a package that the service does not know is no package without known vulnerabilities.
audit: ## look for known vulnerabilities in what constraints.txt pins; needs the network
	@rm -rf build/audit && $(PYTHON) -m venv build/audit
	@$(subst $(BIN),build/audit/bin,$(PIP)) install pip-audit
	@build/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off \
	    -r constraints.txt || { echo "Not a clean audit. If no vulnerability is named above, the" \
	    "service that knows them was not reached: nothing is known then." >&2; exit 1; }

clean: ## remove .venv, caches and builds; the archive stays
	@rm -rf .venv build dist *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache \
	    .pytest_cache .ruff_cache
	@find rag tests eval -name __pycache__ -type d -prune -exec rm -rf {} +

INSTALL_TORCH = $(PIP) install $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)') --no-deps

# A mark is left while the setup runs, so that one which was broken off starts from nothing.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or later is needed; name one: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up .venv (once, takes a few minutes)"
	@if [[ -e $(UNFINISHED) ]] || ! $(BIN)/python -m pip --version > /dev/null 2>&1; then rm -rf .venv; fi
	@[[ -d .venv ]] || $(PYTHON) -m venv .venv
	@rm -f $@ && touch $(UNFINISHED)
	@echo "  torch"
	@$(INSTALL_TORCH) "$$(grep '^torch==' constraints.txt)"
	@echo "  everything else"
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@rm -f $(UNFINISHED) && touch $@

# The second mark says that a build was begun here: one that was broken off is taken up again.
$(SEEDED): $(ARTICLES) $(if $(BUILT),,FORCE) | $(READY)
	@echo "Building the archive in $(INDEX) from $(words $(ARTICLES)) articles"
	@touch $@.begun
	@$(BIN)/rag add --index '$(INDEX)' $(ARTICLES)
	@touch $@ && rm $@.begun

FORCE:
