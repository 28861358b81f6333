# Two commands on a fresh machine: `make demo` and `make test`. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check format benchmarks clean

help:
	@echo "make demo        install, train on built-in synthetic stars, show results (minutes)"
	@echo "make test        install with the test extra, run the tests"
	@echo "make check       ruff, types, import contracts"
	@echo "make format      let ruff rewrite the code"
	@echo "make benchmarks  speed and memory beside peers"
	@echo "make clean       remove what the above made"

# The stamps depend on pyproject.toml: entry points and dependencies are frozen at install.
$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zoo needs Python 3.11 or newer; choose one by PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.base: $(VENV)/.created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --editable . --constraint constraints.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	@touch $@ $(VENV)/.base

demo: $(VENV)/.base
	$(BIN)/zoo train domain=astro

# One thread a process: the tests start more processes than there are cores.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet lightly open_clip_torch faiss-cpu
	$(BIN)/python benchmarks/loop.py
	$(BIN)/python benchmarks/steps.py
	$(BIN)/python benchmarks/loader.py
	$(BIN)/python benchmarks/probe.py
	$(BIN)/python benchmarks/neighbours.py
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/startup.py

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
