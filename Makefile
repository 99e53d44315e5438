.DEFAULT_GOAL := help
# where it is set, each of the tests' processes compiles everything again
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
# one more than two cores have work for: some tests wait for processes that they start
WORKERS ?= 3
PARALLEL = -n $(WORKERS) --dist worksteal
# the oldest and the newest supported Python
PYTHONS ?= python3.10 python3.13
VERSION := import sys; print("%d.%d" % sys.version_info[:2])
COUNTS ?=

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

install: $(STAMP)  ## create the virtual environment .venv with all packages

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## render people, train, sweep budgets, write a report (about two minutes)
	@trap : INT; $(BIN)/python -m reid_lab +experiment=demo $(ARGS) || \
		{ status=$$?; echo "after an interruption: make demo ARGS=ckpt_path=last"; exit $$status; }

test: $(STAMP)  ## run ruff, mypy and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(PARALLEL)

# no test of these waits, and each process imports and collects for a tenth of their time
test-unit test-recipe: WORKERS = 2

test-unit: $(STAMP)  ## tests without runs and full-size networks: about two minutes on two cores
	$(BIN)/pytest $(PARALLEL) -m "not recipe and not system"

test-recipe: $(STAMP)  ## every experiment for a step, every network exported
	$(BIN)/pytest $(PARALLEL) -m recipe

test-system: $(STAMP)  ## whole runs and processes
	$(BIN)/pytest $(PARALLEL) -m "system and not recipe"

test-pythons:  ## the same on each of PYTHONS, each in its own environment: before a release
	@for python in $(PYTHONS); do \
	  version=$$($$python -c '$(VERSION)') || exit 1; \
	  $(MAKE) test PYTHON=$$python VENV=.venv/python$$version || exit 1; \
	done

LOWEST := .venv/lowest
test-lowest:  ## the unit tests with the lowest versions that pyproject.toml allows: before a release
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	$(LOWEST)/bin/python -m pytest -n 2 --dist worksteal -m "not recipe and not system"

MORE = $(filter-out tests/torture/%,$(shell grep -rl --include='test_*.py' REID_LAB_TORTURE tests))
torture: $(STAMP)  ## all kills, bad inputs and hostile files, counted (an hour; COUNTS=file.csv)
	REID_LAB_TORTURE=1 $(BIN)/pytest $(PARALLEL) tests/torture $(MORE) $(COUNTS:%=--torture-csv %)

docs: $(DOCS_STAMP)  ## build the documentation in docs/_build/html; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

lint: $(STAMP)  ## run ruff with its fixes, and mypy
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

bench: $(STAMP)  ## loader, training step and inference compared with plain code
	$(BIN)/python -m experiments.bench

bench-retrieval: $(STAMP)  ## ranking and re-ranking compared with installed toolboxes
	$(BIN)/python -m experiments.bench_retrieval

bench-early-exit: $(STAMP)  ## time and Mul-Adds of early exit; deadlines
	$(BIN)/python -m experiments.bench_early_exit

clean:  ## remove the environment and the tools' caches (never runs/)
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis dist docs/_build docs/studies

.PHONY: help install demo test test-unit test-recipe test-system test-pythons test-lowest torture docs lint bench bench-retrieval bench-early-exit clean
