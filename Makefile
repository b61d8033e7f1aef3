# Everything runs in .venv; `make setup` builds it once and again only when what it is built from has changed.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin

# One process here must not take every core of a shared machine; Ray workers are given their own share by the pool.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
export OMP_NUM_THREADS ?= $(shell [ $(CORES) -gt 4 ] && echo 4 || echo $(CORES))
# Tests run in two processes more than there are cores: those with Ray and those with Prefect mostly wait. PARALLEL=-n0 runs all in one.
PARALLEL ?= -n $(shell [ $(CORES) -gt 4 ] && echo 6 || expr $(CORES) + 2) --dist loadgroup
# Of tests that can run elsewhere: make quick DEVICE=cuda
DEVICE ?= cpu
# Modules are compiled when they are first imported, and that is kept: to compile all of all packages takes a minute.
unexport PYTHONDONTWRITEBYTECODE
export PIP_NO_INPUT = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help setup demo quick test slow chaos fuzz lint format bench assets audit docs lock surface coverage dist

help:
	@echo "make setup   create .venv from requirements.lock"
	@echo "make demo    invert, edit and evaluate real photos; writes a report"
	@echo "make quick   tests that take less than half a second each and need no server; under two minutes"
	@echo "make test    quick, and the tests that take seconds; SLOW=1 for all in one run"
	@echo "make slow    tests that take minutes"
	@echo "make chaos   kill workers, nodes, the driver and the S3 server of one run, twenty times; SEED=n"
	@echo "make fuzz    throw damaged and hostile weight files at the reader, for ten minutes"
	@echo "make lint    ruff, mypy, import contracts"
	@echo "make docs    build the website into site/; warnings are errors"
	@echo "make surface update tests/surface.txt after a public name, command or flag was added or removed"
	@echo "make lock    update the lock files; needs uv; UPGRADE='name name' upgrades these packages"
	@echo "make dist    build wheel and source archive into dist/"
	@echo "make coverage  run quick tests and report uncovered lines in htmlcov/"
	@echo "make audit   check the pinned packages for known vulnerabilities"
	@echo "make format  format the code with ruff"
	@echo "make assets  rebuild everything that depends on the embedded generator; DATA=portraits.parquet"
	@echo "make bench   benchmark methods, opening files and synthesis, as ratios; takes minutes"

setup: $(STAMP)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): requirements.lock requirements-cuda.lock pyproject.toml | $(BIN)/python
	$(BIN)/python deploy/install.py
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/ganinv demo

# None of these waits for a server, and each process imports torch and Ray anew.
quick: PARALLEL = -n $(shell [ $(CORES) -gt 4 ] && echo 4 || echo $(CORES)) --dist loadgroup
quick: setup
	$(BIN)/python -m pytest $(PARALLEL) --device $(DEVICE) -m "not slow and not seconds"

test: setup
	$(BIN)/python -m pytest $(PARALLEL) --device $(DEVICE) -m "$(if $(SLOW),,not slow)" --durations=10 --costs=10

slow: setup
	$(BIN)/python -m pytest $(PARALLEL) --device $(DEVICE) -m slow --durations=10 --costs=10

chaos: setup
	$(BIN)/python -m tests.chaos --seed $(or $(SEED),$$$$)

fuzz: setup
	$(BIN)/python -m tests.reading.fuzz --seconds $(or $(SECONDS),600) --shared $(or $(GANINV_SHARED),../shared) --seed $$$$

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy ganinv tasks flows benchmarks
	$(BIN)/lint-imports

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock:
	$(PYTHON) deploy/lock.py $(foreach name,$(UPGRADE),--upgrade $(name)) $(foreach wheel,$(WHEEL),--wheel $(wheel))

surface: setup
	$(BIN)/python -m tests.surface

dist: setup
	$(BIN)/python -m hatchling build

coverage: setup
	$(BIN)/python -m pytest $(PARALLEL) --device $(DEVICE) -m "not slow and not seconds" --cov --cov-report=html --cov-report=term:skip-covered

audit:
	$(PYTHON) deploy/audit.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

assets: setup
	$(BIN)/python -m benchmarks.assets $(if $(DATA),make --data $(DATA) $(if $(OTHER),--other $(OTHER)) $(if $(ONLY),--only $(ONLY)),plan)

bench: setup
	$(BIN)/python -m benchmarks.inversion.speed --images 4
	$(BIN)/python -m benchmarks.generator.opening --rounds 7
	$(BIN)/python -m benchmarks.generator.synthesis --rounds 20 --ranks 8
