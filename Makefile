# make demo: run the embedded default studies. make test: every check. Both need python3 (3.11 or newer), its venv module and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all

.PHONY: install demo test unit check lock schemas clean help
.DEFAULT_GOAL := help

help:
	@echo "make demo     run the embedded default studies (config/config.yaml) and say where its results are"
	@echo "make test     formatting, lint, types, and all tests"
	@echo "make unit     the unit tests alone (seconds)"
	@echo "make install  the virtual environment in .venv, from requirements.lock"
	@echo "make lock     resolve the dependencies anew and write requirements.lock"

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Penumbra needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install
	$(BIN)/snakemake --cores $(CORES)
	@$(BIN)/python -m penumbra.workflow.results

test: check
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder tests

unit: install
	$(BIN)/pytest -n 2 tests/unit

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/mypy src
	$(BIN)/snakemake --lint

schemas: install
	$(BIN)/python -m penumbra.config.schema

lock:
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check setuptools wheel
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	{ sed -n '/^#/p' requirements.lock; $(VENV)-lock/bin/python -m pip freeze --all --exclude penumbra --exclude pip \
	  | grep -v -E '^(nvidia-|triton==|cuda-|-e )' | sed -E 's/^(torch==[0-9.]+)\+.*/\1/' | sort -f; } > requirements.lock.new
	mv requirements.lock.new requirements.lock && rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV)
