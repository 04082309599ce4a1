# Each command installs what it needs by itself, the first time:
#   make demo        people who do not exist, models of them, verdicts, a report; the default
#   make serve       the web page and endpoint on the model that comes with the package
#   make test        all tests but the slow ones
#   make test-slow   the drills and sweeps
#   make check       format, lint, types, imports
#   make setup       the environment in .venv, nothing more
#   make clean       removes the environment and caches, never what a job wrote
#
# uv installs where it is on PATH, otherwise pip; either keeps to constraints.txt. On Linux the usual
# torch brings gigabytes of CUDA with it. Another build of the same version:
#   make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV := $(shell command -v uv 2>/dev/null)
INSTALL := $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install) --constraint constraints.txt

# Two processes; one thread in each, or they fight for the cores. Without a group, each test is one
# unit of work: a process takes the next one when it is free. Compiled modules are kept even where the
# environment forbids it, as images of containers do: tests start hundreds of processes.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --durations=15 --dist loadgroup --no-loadscope-reorder

.PHONY: demo serve test test-slow check setup clean
.DEFAULT_GOAL := demo

demo: $(INSTALLED)
	$(BIN)/python jobs/demo.py

serve: $(INSTALLED)
	$(BIN)/python jobs/serve_demo.py

test: $(INSTALLED)
	$(PYTEST) -n 2 -m "not slow"

# Drills wait for processes to come back more than they compute: a third process uses that time.
# Only files with a slow test are collected.
test-slow: $(INSTALLED)
	$(PYTEST) -n 3 -m slow $$(grep -rl --include='test_*.py' 'mark\.slow' tests)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy jobs
	$(BIN)/lint-imports

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
# Without dependencies: everything but torch comes from the usual index.
	$(if $(TORCH_INDEX),$(INSTALL) --no-deps --index-url $(TORCH_INDEX) torch)
	$(INSTALL) --editable ".[train,serve,baselines,mlflow,optuna,dev]"
	touch $@

clean:
	rm -rf $(VENV) dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
