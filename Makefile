# make quickstart   train and ask a small model in three minutes; COMPARE=1: and what it is compared with, ten minutes
# make rooms        the same after pre-training its encoder from scratch (hours on a CPU)
# make test         linters, type checker and all tests             make lint    without the tests
# make docs         the documentation as a site in build/docs, which needs no network once its packages are installed
# make faults       hurt small trainings in every way of the catalogue (half an hour); writes the table of docs/en/reliability.md
# make clean        remove .venv
#
# VENV=DIR uses another virtual environment. PYTHON=python3.12 creates it with another Python (3.11 or newer).
# PIP_ARGS="..." passes more options to pip, such as an index that holds builds of torch for CPUs.

VENV ?= .venv
PYTHON ?= python3
SCALE ?= default
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n > 8 ? 8 : n)))

bin := $(VENV)/bin
pip := $(bin)/python -m pip install --disable-pip-version-check $(PIP_ARGS)

.PHONY: help quickstart rooms test lint docs faults install clean
help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 9

quickstart: $(VENV)/.installed
	@$(bin)/kovilt quickstart --scale $(SCALE) $(if $(COMPARE),--compare)

rooms: $(VENV)/.installed
	@$(bin)/kovilt quickstart --recipe rooms --scale $(SCALE)

# Each worker gets one thread, because the models of the tests are so small that threads only wait for each other.
test: lint
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(bin)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.tests-installed
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/lint-imports --no-logo
	$(bin)/mypy

# The site is made from the text of the code, so that neither kovilt nor torch has to be installed.
docs: $(VENV)/.docs-installed
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict
	@echo 'build/docs is complete: $(bin)/python -m http.server --directory build/docs 8001'

faults: $(VENV)/.installed
	$(bin)/python -m benchmarks.faults --docs

install: $(VENV)/.installed

$(bin)/python:
	@$(PYTHON) -c 'import sys; sys.exit("kovilt needs Python 3.11 or newer, not " + sys.version.split()[0] + "; name one: make $(MAKECMDGOALS) PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.py requirements/runtime.txt | $(bin)/python
	$(pip) -e .
	@touch $@

$(VENV)/.docs-installed: requirements/docs.txt | $(bin)/python
	$(pip) -r requirements/docs.txt
	@touch $@

$(VENV)/.tests-installed: $(VENV)/.installed $(wildcard requirements/*.txt)
	$(pip) -r requirements.txt
	@touch $@

clean:
	rm -rf $(VENV)
