# make quickstart   the whole of kovilt in ten minutes          make rooms   the recipe from nothing (hours on a CPU)
# make test         lint and the whole suite                    make clean   remove .venv
#
# VENV=DIR uses another virtual environment, PYTHON=python3.12 another Python to make it with (3.11 or newer),
# PIP_ARGS="--index-url https://download.pytorch.org/whl/cpu --extra-index-url https://pypi.org/simple" another torch.

VENV ?= .venv
PYTHON ?= python3
SCALE ?= default
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n > 8 ? 8 : n)))

bin := $(VENV)/bin
pip := $(bin)/python -m pip install --disable-pip-version-check $(PIP_ARGS)

.PHONY: help quickstart rooms test lint install clean
help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 6

quickstart: $(VENV)/.installed
	@$(bin)/python tools/quickstart.py --scale $(SCALE)

rooms: $(VENV)/.installed
	@$(bin)/python tools/quickstart.py --recipe rooms --scale $(SCALE)

# Each worker gets one thread: the suite's models are so small that threads only wait for one another.
test: lint
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(bin)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.tests-installed
	$(bin)/ruff check .

install: $(VENV)/.installed

$(VENV)/.installed: setup.py requirements/runtime.txt
	@$(PYTHON) -c 'import sys; sys.exit("kovilt needs Python 3.11 or newer, not " + sys.version.split()[0] + "; name one: make $(MAKECMDGOALS) PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(bin)/python || $(PYTHON) -m venv $(VENV)
	$(pip) -e .
	@touch $@

$(VENV)/.tests-installed: $(VENV)/.installed requirements/tests.txt requirements/optional.txt
	$(pip) -r requirements/tests.txt -r requirements/optional.txt
	@touch $@

clean:
	rm -rf $(VENV)
