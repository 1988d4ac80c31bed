# `make` lists what there is. `up` and `test` install what they need; nothing needs root but
# Debian's packages for the tests.

PYTHON ?= python3
BIN := .venv/bin
BASE := .venv/.sentinel/base
DEV := .venv/.sentinel/dev
AIRFLOW := .venv-airflow/.sentinel/airflow
BOOTSTRAP := scripts/bootstrap.py scripts/fetch_uv.py scripts/pip_settings.py
LOCK := pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --fork-strategy fewest \
	$(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

.PHONY: up
up: $(BASE) ## Start everything on this machine; ARGS="--data mapping.toml" for your own data
	@exec $(BIN)/sentinel up $(ARGS)

.PHONY: install
install: $(DEV) ## Make .venv with everything a developer needs

.PHONY: airflow
airflow: $(AIRFLOW) ## Make .venv-airflow, the environment that Airflow runs the pipeline in

.PHONY: test
test: $(DEV) $(AIRFLOW) ## Run all tests; ARGS="tests/features -k late" for some
	@scripts/debian-packages
	@$(BIN)/pytest -n auto $(ARGS)

.PHONY: check
check: $(DEV) ## Lint, check types and the direction of imports, run the examples in docstrings
	@failed=; \
	run() { echo "$$*"; $(BIN)/"$$@" || failed="$$failed $$1"; }; \
	run ruff format --check --output-format concise; \
	run ruff check; \
	run mypy; \
	run lint-imports --no-logo; \
	run pytest -q --doctest-modules src scripts; \
	if [ -n "$$failed" ]; then echo "Failed:$$failed" >&2; exit 1; fi

.PHONY: format
format: $(DEV) ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: docs
docs: $(DEV) ## Renew the pages that are made from code
	$(BIN)/python scripts/document_settings.py
	$(BIN)/python scripts/document_aggregates.py
	$(BIN)/python scripts/document_metrics.py
	$(BIN)/python scripts/build_dashboards.py
	$(BIN)/python scripts/dump_mlflow_tables.py

.PHONY: pictures
pictures: $(DEV) ## Draw the pictures of the docs anew
	$(BIN)/python scripts/draw_censoring.py
	$(BIN)/python scripts/draw_experiment.py

.PHONY: night
night: $(BASE) ## Do once what the nightly pipeline does: retrain if it is due, refresh the policy, settle experiments
	@$(BIN)/sentinel features apply
	@$(BIN)/sentinel features materialize
	@$(BIN)/sentinel retrain $(ARGS)
	@$(BIN)/sentinel policy refresh
	@$(BIN)/sentinel experiment settle

.PHONY: bench
bench: $(DEV) ## Run a benchmark: NAME=parity ARGS="--json"; without NAME list them
	@$(BIN)/python -m benchmarks $(NAME) $(ARGS)

.PHONY: dist
dist: ## Build the wheel and the source archive into dist/
	@uv=$$($(PYTHON) scripts/bootstrap.py uv) && $$uv build --quiet --offline --out-dir dist

.PHONY: lock
lock: ## Renew requirements/*.txt after a change of pyproject.toml; UPGRADE=1 takes newer versions
	@uv=$$($(PYTHON) scripts/bootstrap.py uv) && set -x && \
	$$uv $(LOCK) pyproject.toml -o requirements/base.txt && \
	$$uv $(LOCK) pyproject.toml --extra dev -c requirements/base.txt -o requirements/dev.txt && \
	$$uv $(LOCK) pyproject.toml --extra airflow -o requirements/airflow.txt && \
	for image in api dashboard mlflow; do \
	  $$uv $(LOCK) requirements/$$image.in -c requirements/base.txt -o requirements/$$image.txt || exit 1; \
	done && \
	$$uv $(LOCK) requirements/bootstrap.in -o requirements/bootstrap.txt

.PHONY: clean
clean: ## Remove what make can make again; workspaces (.sentinel) stay
	rm -rf .venv .venv-airflow .uv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find src tests testkit benchmarks scripts -name __pycache__ -prune -exec rm -rf {} +

$(BASE): requirements/base.txt requirements/bootstrap.txt pyproject.toml $(BOOTSTRAP)
	@$(PYTHON) scripts/bootstrap.py base

$(DEV): requirements/dev.txt requirements/bootstrap.txt pyproject.toml $(BOOTSTRAP)
	@$(PYTHON) scripts/bootstrap.py dev

$(AIRFLOW): requirements/airflow.txt requirements/bootstrap.txt pyproject.toml $(BOOTSTRAP)
	@$(PYTHON) scripts/bootstrap.py airflow
