# Everything runs in a virtual environment of its own, .venv, made on first use.
# Needed beforehand: make, and Python 3.11 or newer (another one: `make PYTHON=python3.12 test`).

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# What the package's metadata is made of: when it changes, it is installed again.
METADATA := pyproject.toml rumbuffer/__init__.py

.PHONY: help demo test check format bench clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(VENV)/.demo ## Show the buffer at work against a local RUM service with faults
	$(BIN)/rumbuffer demo

test: $(VENV)/.test ## Run the tests; branch coverage must reach 95 %, that of the core 100 %
	$(BIN)/pytest --numprocesses auto --dist loadfile --cov
	@$(BIN)/coverage report --include='rumbuffer/core/*' --fail-under=100

check: $(VENV)/.check ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy rumbuffer tests $(wildcard benchmarks)
	PATH="$(abspath $(BIN)):$$PATH" pyright --verifytypes rumbuffer --ignoreexternal

format: $(VENV)/.check ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench ## Run the benchmarks, and write their tables into benchmarks/README.md
	$(BIN)/python -m benchmarks --write

clean: ## Remove the virtual environment, builds and caches
	rm -rf $(VENV) build dist .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find rumbuffer tests $(wildcard benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp file says that its part of the environment is installed. pip 25.1 is the first that knows
# dependency groups.

$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo >&2 "rumbuffer needs Python 3.11 or newer, and $(PYTHON) is not that; name one: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo >&2 "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.demo: $(METADATA) | $(VENV)/.pip
	$(PIP_INSTALL) --editable '.[cli]'
	@touch $@

$(VENV)/.test: $(METADATA) | $(VENV)/.pip
	$(PIP_INSTALL) --editable '.[bench,cli,gzip,uvloop]' --group test
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: $(METADATA) | $(VENV)/.pip
	$(PIP_INSTALL) --editable '.[cli,uvloop]' --group bench
	@touch $@ $(VENV)/.test $(VENV)/.demo

$(VENV)/.check: $(METADATA) | $(VENV)/.pip
	$(PIP_INSTALL) --editable '.[bench,cli,gzip,uvloop]' --group dev
	@touch $@ $(VENV)/.test $(VENV)/.demo
