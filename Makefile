# The commands that people type. `make demo SERVE=0` trains without opening the dashboard.
PYTHON ?= python3.11
BIN := .venv/bin
SERVE ?= 1

export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo train serve test bench screenshots lint format lock torture audit-deps clean

help:  ## lists the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/installed  ## makes the virtual environment, every package pinned by hash

# uv installs in seconds what takes pip minutes; it comes from the lock itself. Bytecode is compiled once, here: importing torch
# takes twice as long where Python may not store it (PYTHONDONTWRITEBYTECODE).
.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -oE '^uv==[0-9.]+' requirements.txt)"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

demo: setup  ## draws phantom hospitals, trains a federation on them, opens the dashboard
	$(BIN)/medisync demo $(if $(filter 0,$(SERVE)),--no-serve)

train: setup  ## executes notebook.ipynb on the datasets under dataset/
	$(BIN)/medisync train

serve: setup  ## opens the dashboard on the newest run
	$(BIN)/medisync serve

test: setup  ## runs everything that CI runs
	$(MAKE) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

screenshots: setup  ## takes the pictures of the documentation; needs Debian's chromium
	PYTHONPATH=benchmarks $(BIN)/python docs/screenshots.py

lint: setup  ## checks format, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: setup  ## rewrites the code to the house format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lock: setup  ## compiles requirements.txt from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra download --extra export --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --quiet --custom-compile-command "make lock" --output-file requirements.txt

torture: setup  ## kills runs, fills disks, loads the dashboard; prints what was lost (up to an hour)
	$(BIN)/python benchmarks/torture.py

bench: setup  ## compares the speed with what the machine can do (half an hour on an idle machine)
	$(BIN)/python benchmarks/speed.py

# Strict: a package that cannot be looked up fails the audit; otherwise no connection would look like no vulnerability.
audit-deps: setup  ## looks for known vulnerabilities of the locked packages
	$(BIN)/uv tool run pip-audit==2.10.1 --strict --require-hashes --disable-pip --progress-spinner off -r requirements.txt

clean:  ## deletes the virtual environment, caches and the demo, never a run
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache demo
