# Two commands for newcomers: `make run` and `make test`. `make help` lists the rest.

VENV ?= .venv
PYTHON ?= python3
PORT ?= 7788
BIN = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test test-many test-services lint format bench bench-quick short-or-long soak clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 16

run: $(VENV)/.run ## serve on port 7788 (PORT=n for another) and say how to talk to it
	@$(BIN)/tieline serve --port $(PORT) --reply "thank you !" || [ $$? -ge 128 ]

test: $(VENV)/.dev ## install what the tests need, run them all
	@scripts/install-test-peers
	@$(BIN)/python -m pytest $(ARGS)

test-many: $(VENV)/.dev ## 15,000 connections; the guard's long proofs: churn, storms, reloads, gigabytes (minutes)
	@$(BIN)/python -m pytest tests/many $(ARGS)

test-services: $(VENV)/.dev ## put real services behind a guard: Redis, SSH, PostgreSQL... (five minutes)
	@scripts/install-services
	@FULL_SIZE=1 $(BIN)/python -m pytest -rP tests/guard/test_recipes.py $(ARGS)

lint: $(VENV)/.dev ## format check, linter, types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(VENV)/.dev ## format the code, mend what the linter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.dev ## the whole benchmark, interleaved with its peers (an hour and a half)
	$(BIN)/python benchmarks/run.py

bench-quick: $(VENV)/.dev ## the same in nine minutes, with wider error bars
	$(BIN)/python benchmarks/run.py --quick

short-or-long: $(VENV)/.dev ## measure short against long connections for docs/short-or-long.md (two minutes)
	@$(BIN)/python scripts/measure-short-or-long $(ARGS)

soak: $(VENV)/.dev ## hammer the caps for a minute: never one too many, never a place lost
	$(BIN)/python benchmarks/soak.py $(ARGS)

clean: ## remove the virtual environment and everything built
	rm -rf $(VENV) build dist benchmarks/build .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.made:
	@PYTHON=$(PYTHON) scripts/make-venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made pyproject.toml
	@$(BIN)/pip install --quiet --editable '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	@$(BIN)/pip install --quiet --editable '.[all]' --group dev
	@touch $@ $(VENV)/.run
