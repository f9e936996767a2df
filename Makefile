# Each target works as the first command in a fresh clone: all it needs is Python 3.11 or newer.
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
TYPED := workflow_engine $(wildcard example_project) tests/backends $(wildcard tests/typing)
LINTS := lint-format lint-rules lint-types lint-imports lint-migrations lint-deploy

.DEFAULT_GOAL := help
.PHONY: help demo test bench soak bounded simulate lint $(LINTS) format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.demo ## Run the example project: real workflows in your terminal, on SQLite
	@$(BIN)/python manage.py migrate --verbosity 0
	@$(BIN)/python manage.py demo $(ARGS)

test: $(VENV)/.test ## Run the tests on SQLite, PostgreSQL and MariaDB; make test ARGS="-k cancel" picks some
	@$(BIN)/python -m tests.backends $(ARGS)

bench: $(VENV)/.test ## Measure beside other systems; make bench ARGS=--quick takes about five minutes
	@$(BIN)/python -m tests.benchmarks $(ARGS)

soak: $(VENV)/.test ## Chaos for 10 minutes: kill workers, servers and clients under load; ARGS="--lane ci" takes 60 s
	@$(BIN)/python -m tests.soak $(ARGS)

bounded: $(VENV)/.test ## Create runs for two hours while what is old is deleted, and compare the tables after each
	@$(BIN)/python -m tests.bounded $(ARGS)

simulate: $(VENV)/.test ## Play thousands of schedules of hosts that die; make simulate ARGS=--mutants breaks the engine first
	@$(BIN)/python -m tests.simulation $(ARGS)

lint: $(LINTS) ## Check format, rules, types, layers, migrations and deployment settings; changes nothing

lint-format: $(VENV)/.test
	$(BIN)/ruff format --check .

lint-rules: $(VENV)/.test
	$(BIN)/ruff check .

lint-types: $(VENV)/.test
	$(BIN)/python -m mypy $(TYPED)

lint-imports: $(VENV)/.test
	$(BIN)/lint-imports

lint-migrations: $(VENV)/.test
	$(BIN)/python manage.py makemigrations --check --dry-run

lint-deploy: $(VENV)/.test
	DJANGO_DEBUG=0 DJANGO_ALLOWED_HOSTS=workflows.example.org \
	DJANGO_SECRET_KEY="$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))')" \
	$(BIN)/python manage.py check --deploy --fail-level WARNING

format: $(VENV)/.test ## Format the code and repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment, caches and build products
	rm -rf $(VENV) build dist *.egg-info htmlcov .coverage .coverage.* \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is kept if its Python is new enough and has pip; otherwise it is made anew.
$(VENV)/.python:
	@if $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		touch $@; exit; \
	fi; \
	for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
		if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Creating $(VENV) with $$($$python --version)"; \
			$$python -m venv --clear $(VENV) && touch $@; exit; \
		fi; \
	done; \
	echo "This project needs Python 3.11 or newer with its venv module (Debian: apt install python3-venv)." >&2; \
	echo "None was found as: $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11." >&2; \
	echo "Name yours with: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
	exit 1

$(VENV)/.demo: setup.cfg pyproject.toml $(VENV)/.python
	@echo "Installing the example and what it needs into $(VENV) (once; about half a minute)"
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --editable ".[example,api]"
	@touch $@

$(VENV)/.test: setup.cfg pyproject.toml $(VENV)/.python
	@echo "Installing the test tools and bundled servers into $(VENV) (once; about a minute)"
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --editable ".[test,api,example,dev]"
	@touch $@
