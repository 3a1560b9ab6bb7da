# `make help` lists every target. Everything runs from .venv, which the first target that needs it sets up.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# Idle helper threads of OpenMP sleep instead of spinning: on a busy machine that is the difference between seconds and minutes.
export OMP_WAIT_POLICY := PASSIVE
DEMO_HOME ?= .demo
DEMO_SERVE ?= 1
DATA ?=
ROUNDS ?= 20
MINUTES ?= 10
N ?= 20e6
SMALL ?=
EVIDENCE ?=

.PHONY: help demo engines bigquery-emulator golden test check lint types imports faults soak bench bench-scale bench-evidence airflow airflow-test reference docs lock obp-answers clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.venv/.ready: pyproject.toml requirements.lock
	@echo "setting up .venv (once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Segue needs Python 3.11 or newer; say make PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@$(BIN)/uv pip install -q -r requirements.lock
	@$(BIN)/uv pip install -q --no-deps -e .
	@touch $@

demo: .venv/.ready ## Simulate a service (or DATA=30music:PATH), run the flow, evaluate, publish, serve on 127.0.0.1:8080
	@SEGUE_HOME=$(DEMO_HOME) $(BIN)/segue demo $(if $(DATA),--data $(DATA)) $(if $(filter 0,$(DEMO_SERVE)),--no-serve)

.venv/.engines: .venv/.ready requirements-engines.lock
	@echo "adding Spark and BigQuery's client to .venv (once)"
	@$(BIN)/uv pip install -q -r requirements-engines.lock
	@$(BIN)/python -m compileall -q -j 0 .venv/lib > /dev/null || true  # the tests start hundreds of processes: none compiles it again
	@touch $@

.bqemulator/.ready: .venv/.ready requirements-emulator.lock
	@echo "setting up BigQuery's emulator in .bqemulator (once)"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .bqemulator
	@$(BIN)/uv pip install -q --python .bqemulator/bin/python -r requirements-emulator.lock
	@HOME=$(CURDIR)/.bqemulator .bqemulator/bin/python -c 'import duckdb_extensions as e; e.import_extension("spatial")'
	@touch $@

bigquery-emulator: .venv/.engines .bqemulator/.ready ## Run BigQuery's emulator on this machine, and say how it is used
	@$(BIN)/python tests/bigquery_emulator.py

engines: .venv/.engines ## Add the engines besides DuckDB to .venv: Spark, BigQuery's client

test: .venv/.engines ## Run every test
	@$(MAKE) -s .bqemulator/.ready || echo "note: no BigQuery emulator could be installed; its tests will be skipped by name"
	@$(BIN)/pytest

check: lint types imports ## Everything but the tests

lint: .venv/.ready ## Style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/.ready ## Types, strictly
	@$(BIN)/mypy

imports: .venv/.ready ## The one-way flow of imports
	@$(BIN)/lint-imports

faults: .venv/.ready ## Kill server, workers, landing, publishing and filling of state at random moments for some minutes, and count
	@$(BIN)/python tests/faults/rounds.py --rounds $(ROUNDS)

soak: .venv/.ready ## Load a small service for MINUTES=10, landing every minute: memory must stay flat, nothing be lost
	@$(BIN)/python tests/faults/soak.py --minutes $(MINUTES)

bench: .venv/.ready ## Measure against named peers; writes benchmarks/results.json and docs/reference/benchmarks.md
	@$(BIN)/uv pip install -q -r requirements-bench.lock
	@$(MAKE) -s .obp/.ready || echo "note: Open Bandit Pipeline could not be installed; its rows are left out"
	@$(MAKE) -s .feast/.ready || echo "note: Feast could not be installed; its rows are left out"
	@$(BIN)/python -m benchmarks

bench-scale: .venv/.ready ## Build the tables of N=20e6 simulated events, an eighth and a 64th of them: speed, memory, growth
	@$(BIN)/python -m benchmarks.scale --events $(N)

bench-evidence: .venv/.ready ## Measure how often each rung of evidence is right, on known challengers (SMALL=1: a quick look, not kept)
	@$(BIN)/python -m benchmarks.evidence $(if $(SMALL),--small) $(EVIDENCE)

.airflow/.ready: .venv/.ready requirements-airflow.lock
	@echo "setting up .airflow (once)"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .airflow
	@$(BIN)/uv pip install -q --python .airflow/bin/python -r requirements-airflow.lock
	@touch $@

airflow: .airflow/.ready ## Airflow with its UI on 127.0.0.1:8081, over the demo's home
	@test -e $(DEMO_HOME)/bundles/CURRENT || $(MAKE) --no-print-directory demo DEMO_SERVE=0
	@$(BIN)/python tests/airflow/local_airflow.py --home $(DEMO_HOME)

airflow-test: .airflow/.ready ## Check the DAGs; a simulated day through real Airflow must equal the in-process runner's
	@AIRFLOW_HOME=$(CURDIR)/.airflow/home .airflow/bin/python -m pytest -q -c /dev/null --rootdir tests/airflow --confcutdir tests/airflow -p no:cacheprovider tests/airflow/test_dags.py
	@$(BIN)/python tests/airflow/day.py

.obp/.ready: .venv/.ready requirements-obp.lock
	@echo "setting up Open Bandit Pipeline in .obp (once)"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .obp
	@$(BIN)/uv pip install -q --python .obp/bin/python --no-deps -r requirements-obp.lock obp==0.5.7
	@touch $@

.feast/.ready: .venv/.ready requirements-feast.lock
	@echo "setting up Feast in .feast (once)"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .feast
	@$(BIN)/uv pip install -q --no-config --python .feast/bin/python -r requirements-feast.lock  # our constraints are not its
	@touch $@

obp-answers: .obp/.ready ## Write anew what Open Bandit Pipeline answers, for the tests of off-policy estimates
	@.obp/bin/python tests/reference/obp_answers.py

golden: .venv/.engines ## Accept what the flow asks of BigQuery as it is now: see the difference with git, and review it
	@$(BIN)/python tests/golden_sql.py

.reference/.ready: .venv/.ready requirements-reference.lock
	@echo "setting up gbstats and statsmodels in .reference (once)"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .reference
	@$(BIN)/uv pip install -q --python .reference/bin/python -r requirements-reference.lock
	@touch $@

reference: .reference/.ready ## Ask gbstats and statsmodels again what the statistics of experiments are held against
	@.reference/bin/python tests/reference/ask.py

docs: .venv/.ready ## Regenerate docs/reference and dags/steps.json from the code
	@$(BIN)/segue docs docs/reference
	@$(BIN)/segue step list --json > dags/steps.json

lock: ## Resolve the dependencies anew
	@$(BIN)/uv pip compile -q --no-header --only-binary=:all: --group airflow -o requirements-airflow.lock
	@$(BIN)/uv pip compile -q --no-header --only-binary=:all: --extra dev pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --no-header --only-binary=:all: --extra dev --extra bench pyproject.toml -c requirements.lock -o requirements-bench.lock
	@$(BIN)/uv pip compile -q --no-header --only-binary=:all: --no-binary pyspark --extra dev --extra spark --extra bigquery pyproject.toml -c requirements.lock -o requirements-engines.lock
	@$(BIN)/uv pip compile -q --no-header --only-binary=:all: --group bigquery-emulator -o requirements-emulator.lock
	@$(BIN)/uv pip compile -q --no-header --only-binary=:all: --group reference -o requirements-reference.lock
	@$(BIN)/uv pip compile -q --no-header --only-binary=:all: --group obp -o requirements-obp.lock
	@$(BIN)/uv pip compile -q --no-header --only-binary=:all: --no-config --group feast -o requirements-feast.lock

clean: ## Remove what the targets made
	rm -rf .venv .airflow .bqemulator .reference .obp .feast .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
