# make run         install, then the quick recipe: from documents to a released model
# make test        install, then the tests (about 12 minutes on 2 cores)
# make test-slow   kill campaigns, servers, browsers (under an hour)
# make lint        ruff, mypy, import arrows
# make docs        the pages that are made from the code
#
# PYTHON=python3.12       another interpreter (3.11 or 3.12)
# TORCH=keep              use the torch that this interpreter has already
# TORCH_INDEX=URL         another source of torch wheels (Linux: the default wheel brings gigabytes of CUDA)

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.*
TORCH_INDEX ?=
RECIPE ?= quick

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CONSTRAINTS := deployments/constraints.txt

.PHONY: run test test-slow lint docs clean

run: $(VENV)/installed
	$(BIN)/llmill run $(RECIPE)

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed-dev
	$(BIN)/python -m docs.settings > docs/settings.md
	$(BIN)/python -m docs.stages > docs/stages.md

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 13) else \
	  "llmill needs Python 3.11 or 3.12, this is %d.%d: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(if $(filter keep,$(TORCH)),--system-site-packages) $(VENV)

$(VENV)/torch: $(VENV)/bin/python
ifeq ($(TORCH),keep)
	@$(BIN)/python -c 'import torch' || (echo "TORCH=keep: this Python has no torch to keep" >&2; exit 2)
else
	$(PIP) install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
endif
	@$(BIN)/python -c 'import importlib.metadata as m; print("torch==" + m.version("torch"))' > $@

$(VENV)/constraints.txt: $(VENV)/torch $(CONSTRAINTS)
	@grep -v '^torch==' $(CONSTRAINTS) | cat $(VENV)/torch - > $@

$(VENV)/installed: pyproject.toml $(VENV)/constraints.txt
	@echo "installing llmill into $(VENV) (a few minutes the first time)"
	$(PIP) install --constraint $(VENV)/constraints.txt --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml $(VENV)/constraints.txt
	@echo "installing llmill and its tools into $(VENV) (a few minutes the first time)"
	$(PIP) install --constraint $(VENV)/constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
