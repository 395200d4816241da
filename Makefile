# The front door. `make` lists what there is.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test test-pg chaos chaos-pg soak soak-pg lint format types migrations-check ci bench lock clean

python := .venv/bin/python
installed := .venv/installed
tests = $(python) -m pytest $(if $(SKIP_BROWSER),-m "(not chaos or smoke) and not browser") $(PYTEST_ARGS)
chaos = $(python) -m pytest -m chaos $(PYTEST_ARGS)
soak = SOAK_SECONDS=$(or $(SECONDS),600) SOAK_SEED="$(SEED)" $(python) -m pytest -m chaos -q -s tests/chaos/test_soak.py

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' Makefile

$(installed): requirements-dev.txt bin/install
	@bin/install

run: $(installed) ## set everything up and serve on PORT (8000, or the next free one)
	@exec $(python) -m local </dev/null

test: $(installed) ## run every test, on SQLite and in a real browser (PYTEST_ARGS, SKIP_BROWSER=1)
	@$(python) -m local.browser
	@echo "== tests on SQLite"
	@TEST_DATABASE=sqlite $(tests)

test-pg: $(installed) ## run every test on a private PostgreSQL
	@$(python) -m local.browser
	@echo "== tests on PostgreSQL"
	@TEST_DATABASE=postgres $(tests)

chaos: $(installed) ## kill, hang and cut off everything, on SQLite (chaos-pg: on PostgreSQL)
	@$(python) -m local.browser
	@TEST_DATABASE=sqlite $(chaos)

chaos-pg: $(installed)
	@$(python) -m local.browser
	@TEST_DATABASE=postgres $(chaos)

soak: $(installed) ## ten minutes of people and faults, on SQLite (SEED, SECONDS; soak-pg: on PostgreSQL)
	@TEST_DATABASE=sqlite $(soak)

soak-pg: $(installed)
	@TEST_DATABASE=postgres $(soak)

lint: $(installed) ## check style of Python and templates
	@echo "== lint"
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(python) -m djlint --quiet --lint templates

format: $(installed) ## put Python into shape
	@$(python) -m ruff check --fix .
	@$(python) -m ruff format .

types: $(installed) ## check types
	@echo "== types"
	@SECRET_KEY=only-for-this-check $(python) -m mypy chat config local

migrations-check: $(installed) ## check that no migration is missing
	@echo "== migrations"
	@SECRET_KEY=only-for-this-check DATABASE_URL=sqlite://:memory: $(python) manage.py makemigrations --check --dry-run

ci: lint types migrations-check test test-pg ## everything that must pass at each commit
	@echo "== all green"

bench: $(installed) ## measure the figures of docs/scaling.md on this machine
	@$(python) -m bench

lock: $(installed) ## compile the requirements again, each package with its hashes
	@for name in requirements requirements-dev; do \
		$(python) -m uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url \
			--python-version 3.12 $$name.in -o $$name.txt || exit 1; \
	done

clean: ## remove .venv, caches and logs; the data in var/ stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis var/log var/static
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
