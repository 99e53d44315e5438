.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
WORKERS ?= 2
# the oldest Python that is promised, and the newest
PYTHONS ?= python3.10 python3.13
VERSION := import sys; print("%d.%d" % sys.version_info[:2])
COUNTS ?=

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

install: $(STAMP)  ## a virtual environment in .venv with everything in it

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## the main job: people, training, budgets, report (about five minutes)
	$(BIN)/python -m reid_lab +experiment=demo

test: $(STAMP)  ## ruff, mypy and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n $(WORKERS)

test-pythons:  ## the same on each of PYTHONS, in environments of their own: before a release
	@for python in $(PYTHONS); do \
	  version=$$($$python -c '$(VERSION)') || exit 1; \
	  $(MAKE) test PYTHON=$$python VENV=.venv/python$$version || exit 1; \
	done

torture: $(STAMP)  ## every kill, bad input and hostile file, counted (an hour; COUNTS=file.csv)
	REID_LAB_TORTURE=1 $(BIN)/pytest -n $(WORKERS) tests/torture $(COUNTS:%=--torture-csv %)

docs: $(DOCS_STAMP)  ## the documentation site in docs/_build/html; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

lint: $(STAMP)  ## ruff and mypy, fixing what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

bench: $(STAMP)  ## images/s of loader and training step against plain code, by ratio
	$(BIN)/python -m experiments.bench

bench-retrieval: $(STAMP)  ## ranking and re-ranking beside the toolboxes that are installed
	$(BIN)/python -m experiments.bench_retrieval

bench-early-exit: $(STAMP)  ## time and Mul-Adds of a network that stops; deadlines
	$(BIN)/python -m experiments.bench_early_exit

clean:  ## remove the environment and the caches of the tools (never runs/)
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis dist docs/_build docs/studies

.PHONY: help install demo test test-pythons torture docs lint bench bench-retrieval bench-early-exit clean
