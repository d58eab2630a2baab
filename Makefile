# `make demo` and `make test` set up everything they need on a fresh machine.
PYTHON ?= python3
VENV := .venv
TRAIN_VENV := .venv-train
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check

.PHONY: env demo test check unit bench docs clean

# Everything that tests and benchmarks need: .venv, and .venv-train (torch) for the fine-tuned encoder.
env: $(VENV)/.stamp $(TRAIN_VENV)/.stamp

$(VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e '.[demo,dev]'
	touch $@

$(TRAIN_VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TRAIN_VENV)
	$(TRAIN_VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt torch
	$(TRAIN_VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt -e '.[train]'
	touch $@

# The whole loop on real Hermes sessions; needs no account, no GPU, no torch.
demo: $(VENV)/.stamp
	$(BIN)/apprentice demo $(DEMO_FLAGS)

# What CI runs: style, types, import contracts, stale docs, then every test.
test: env check
	$(BIN)/python -m pytest -q

check: $(VENV)/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m cogapp --check docs/cli.md docs/settings.md docs/mcp.md

# The quick tests only.
unit: $(VENV)/.stamp
	$(BIN)/python -m pytest -q tests/unit

# Each benchmark prints one JSON object as its last line; DATA is a folder with public data.
bench: env
	for b in benchmarks/[a-z]*.py; do $(BIN)/python $$b $(if $(DATA),--data $(DATA)) --json || exit 1; done

# Regenerate the reference pages from the code.
docs: $(VENV)/.stamp
	$(BIN)/python -m cogapp -r docs/cli.md docs/settings.md docs/mcp.md

clean:
	rm -rf $(VENV) $(TRAIN_VENV) build dist .pytest_cache .mypy_cache .ruff_cache
