# `make demo` and `make test` are the two commands of a fresh machine; each makes .venv first.
PYTHON ?= python3
VENV ?= .venv
E2E ?= tests/e2e
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# WeasyPrint draws with Pango; koda's own thread pools must not fight torch's
export OPENBLAS_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
# the installation compiles nothing: what a process imports first, it compiles once for all that come after
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test e2e check format reference bench clean

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"koda needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing koda and its dependencies into $(VENV) (some minutes, once) ..."
	@$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' 2>$(VENV)/pip.log \
		|| { cat $(VENV)/pip.log; exit 1; }
	@touch $@

demo: $(STAMP)
	@$(BIN)/koda demo; code=$$?; \
	if [ $$code -eq 1 ]; then \
		echo; echo "The verdict is FAIL, and that is what this demo is to show: the candidate has regressed, and koda caught it."; \
	elif [ $$code -eq 0 ]; then \
		echo; echo "The demo was to end with the verdict FAIL, but it passed: something is wrong."; exit 1; \
	else exit $$code; fi

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadscope

# real servers, schedules, signals and crashes: minutes, not seconds. Much of it waits, so five at once
e2e: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(E2E) -n 5 --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: $(STAMP)
	$(BIN)/python -c 'from koda.config.reference import markdown; print(markdown(), end="")' > docs/configuration.md

bench: $(STAMP)
	@failed=; for script in benchmarks/*.py; do $(BIN)/python $$script || failed="$$failed $$script"; done; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

clean:
	rm -rf $(VENV) koda-runs build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
