# `make demo`: from nothing to meshes of chairs. `make test`: the whole suite. Everything is installed into .venv.
# Needs Python 3.11 or later; name another one with `make PYTHON=/path/to/python3.12 demo`.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
# Installed editable, so that a changed source file needs no second install; the stamps below hold until the
# dependencies change.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable
# Processes that the tests are spread over; each of them computes on one thread.
WORKERS ?= 2
# More for pytest or for benchmarks/gpu.py, e.g. `make test ARGS="-k camera"`.
ARGS ?=

.PHONY: demo test lint types gpu clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(BIN)/tars3d demo

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest --numprocesses $(WORKERS) $(ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

$(VENV)/pyvenv.cfg:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tars3d needs Python 3.11 or later; name one: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(INSTALL) .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(INSTALL) '.[render,texture,remote,dev]'
	touch $(VENV)/installed $@

# On a machine with a CUDA device: GPU tests, speed benchmark, then training goes on; at most MINUTES in all.
# `make gpu INSTALLED=python3` installs nothing: it takes a Python that has all that tars3d needs.
MINUTES ?= 25
INSTALLED ?=
gpu: $(if $(INSTALLED),,$(VENV)/installed-dev)
	$(or $(INSTALLED),$(BIN)/python) benchmarks/gpu.py --minutes $(MINUTES) $(ARGS)

# What this file makes; collections, runs and results stay.
clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
