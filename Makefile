# Every target works alone from a bare clone: whatever needs the environment makes it first.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.tessera-setup
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK_TOOLS := .tessera/lock-tools

# The first interpreter that runs and is new enough; override with `make setup PYTHON=/path/to/python`.
PYTHON ?= $(shell for candidate in python3.11 python3; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$candidate" && break; done)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo serve test test-ray fuzz check bench bench-full drill failover features simulate simulate-long format lock clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP)  ## Create or refresh .venv from requirements.lock; does nothing when it is fresh

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Tessera needs Python 3.11 or newer; set PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/python && test -x $(BIN)/pip || "$(PYTHON)" -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@

demo: setup  ## Run the guided tour
	$(BIN)/tessera demo

serve: setup  ## Start the engine and its HTTP gateway
	$(BIN)/tessera serve

test: setup  ## Run all tests
	$(BIN)/python -m pytest

# What CI runs on Ray is a part of this: the modules whose `RUNTIMES` say so.
RUNTIME_TESTS := $(addprefix tests/integration/test_,http_api.py http_idempotency.py bad_input.py bulk_api.py \
	client.py client_api.py short_cut.py engine.py crossings.py)
test-ray: setup  ## Run the tests of the core with four shards, in one process and on a Ray cluster of two nodes
	$(BIN)/python -m pytest --runtime "4 shards" $(RUNTIME_TESTS)
	$(BIN)/python -m pytest --runtime ray $(RUNTIME_TESTS)

FUZZ_REQUESTS ?= 20000
FUZZ_SEED ?= 1
fuzz: setup  ## Hold the gateway to its OpenAPI document with 20,000 requests (FUZZ_REQUESTS), all checks, stateful
	$(BIN)/python -m pytest tests/unit/test_decoder_fuzz.py tests/integration/test_raw_bytes.py \
		tests/integration/test_openapi_fuzz.py -s --timeout 0 \
		--fuzz-requests $(FUZZ_REQUESTS) --fuzz-seed $(FUZZ_SEED)

check: setup  ## Everything CI runs: format, lint, types, import contracts, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

# Peers are named in BENCH, such as `make bench-full BENCH="--tigerbeetle PATH"`; see docs/benchmarks.md.
bench: setup  ## Run the short benchmarks
	$(BIN)/tessera bench --output bench-output $(BENCH)

bench-full: setup  ## Run the full benchmarks; takes an hour
	$(BIN)/tessera bench --full --output bench-output $(BENCH)

failover: setup  ## Strike a Ray cluster on this machine under load, 43 times; takes a quarter of an hour
	$(BIN)/python -m simulations.failover --accounts 1000000 \
		--shard 20 --gateway 5 --postgresql 5 --moved 3 --grown 3 --node 3 --frozen 3 --head 1 $(FAILOVER)

features: setup  ## Hold the features of 1.75 M made payments to those of pandas; takes a few minutes
	$(BIN)/python -m tests.simulation.slow_card_features

drill: setup  ## Kill an engine under load, lose its database, restore a backup; prints RPO and RTO
	$(BIN)/python -m simulations.drill

simulate: setup  ## Hunt for bugs: 300 fresh seeds, or SEED=… alone
	$(BIN)/tessera simulate $(if $(SEED),--seed $(SEED))

# First every mutant is searched for, up to a thousand seeds each; then fresh seeds run for so long.
MINUTES ?= 60
simulate-long: setup  ## The same for MINUTES=… (60), after a search for every broken variant of the code
	$(BIN)/tessera simulate --mutants
	$(BIN)/tessera simulate --minutes $(MINUTES)

format: setup  ## Format the code and apply the linter's safe fixes
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# Versions already locked are kept; `make lock UPGRADE=--upgrade` moves them.
lock:  ## Regenerate requirements.lock from pyproject.toml
	@test -n "$(PYTHON)" || { echo "Tessera needs Python 3.11 or newer; set PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(LOCK_TOOLS)/bin/pip || "$(PYTHON)" -m venv $(LOCK_TOOLS)
	$(LOCK_TOOLS)/bin/python -m pip --disable-pip-version-check --quiet install uv
	$(LOCK_TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra cluster --extra tracing \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header $(UPGRADE) \
		--output-file requirements.lock pyproject.toml

clean:  ## Remove .venv, caches and build artefacts; .tessera, which holds local data, stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf $(LOCK_TOOLS) bench-output
	find . -name __pycache__ -type d -not -path './.tessera/*' -prune -exec rm -rf {} +
