# make demo   set up, then run the demonstration campaign
# make test   set up, then run every check and every test

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint format setup clean

demo: $(READY)
	$(BIN)/gan-htvs demo
	$(BIN)/gan-htvs candidates --campaign mg-mn-o-demo

# Two processes more than cores, because tests also wait for servers and batch systems.
test: lint
	$(BIN)/python -m pytest -n $(shell expr $$(nproc) + 2) --durations=10

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Repeat the setup, to enable features that an earlier setup had to disable.
setup:
	rm -f $(READY)
	$(MAKE) $(READY)

$(READY): pyproject.toml constraints.txt tools/setup.sh tools/apt.sh
	bash tools/setup.sh $(VENV)
	touch $@

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
