# Three commands matter: `make demo`, `make serve` and `make test`. Each sets everything up by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo serve test check setup clean
.DEFAULT_GOAL := demo

demo: $(INSTALLED)
	$(BIN)/python jobs/demo.py

serve: $(INSTALLED)
	$(BIN)/python jobs/serve_demo.py

# Two processes, whole files each; one thread in each, or they fight for the cores. Ray lowers the
# priority of its workers: beside the other process they would starve. Files in their own order, so
# that those with few but long tests are not all at the end.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 RAY_worker_niceness=0 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

setup: $(INSTALLED)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[baselines,mlflow,dev]"
	touch $@

clean:
	rm -rf $(VENV) dist
