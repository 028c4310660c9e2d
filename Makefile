# make demo: install into .venv and search real files.  make test: everything that must hold.  make bench: the figures.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check

.PHONY: demo test bench nano clean

demo: .venv/base
	@echo; echo '$$ nestling models'
	@$(BIN)/nestling models
	@echo; echo '$$ nestling search "what happens when the disk is full while saving" README.md docs src --top 3'
	@$(BIN)/nestling search "what happens when the disk is full while saving" README.md docs src --top 3
	@echo; echo '$$ nestling search "how does a text become a vector" README.md docs src --top 3'
	@$(BIN)/nestling search "how does a text become a vector" README.md docs src --top 3

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

# The figures in README.md and docs/: need ../shared (or NESTLING_DATA).
bench: .venv/test
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/questions.py
	$(BIN)/python benchmarks/sts.py
	$(BIN)/python benchmarks/search_speed.py
	$(BIN)/python benchmarks/tables.py

# Makes the shipped model anew, byte for byte.
nano: .venv/test
	$(BIN)/nestling make recipes/nano.toml --out src/nestling/models/nano.nest --report benchmarks/results/nano.json

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nestling needs Python 3.11 or newer; $(PYTHON) is older. Type: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/base: .venv/bin/python pyproject.toml
	$(PIP) install --quiet --editable .
	@touch $@

# torch first, pinned: with nothing else asked for, pip takes the CPU build where one lies ready.
.venv/test: .venv/base constraints.txt
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
