# make demo   a sheet of stylised pictures, from a fresh clone with Python 3.10+ alone
# make test   the whole test suite
# make test-long   what takes longer: kills, large pictures, large folders
# make test-lowest   the suite by the lowest versions that pyproject.toml allows
# make lint   ruff, the types, and the workflow's schema
# make keywords   the types of keyword arguments, after a change of options
# make docs   the site, in build/site/
# make wheel  the wheel, in dist/

PYTHON ?= python3
WORKERS ?= 2
# Of torch, `make test-lowest` takes this one: TORCH=torch==2.6.0+cpu where there is such a build.
TORCH ?= torch
BIN := .venv/bin

.PHONY: demo test test-long test-lowest lint keywords docs wheel clean

demo: .venv/demo
	$(BIN)/impasto samples build/demo --photos
	$(BIN)/python benchmarks/demo.py build/demo
	@echo
	@echo "The sheet is $(CURDIR)/build/demo/result.png"
	@echo "Type next: $(BIN)/impasto stylize build/demo/chelsea.png build/demo/woodcut.png -o cat.png"
	@echo "To type impasto alone, in this terminal: source $(BIN)/activate"

# Pictures this small are faster by one thread in each of two processes.
test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

test-long: .venv/dev
	$(BIN)/python -m pytest -m long

test-lowest: .venv/dev
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest --resolution lowest-direct \
		--editable '.[test]' '$(TORCH)'
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n $(WORKERS)

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/python tests/verify_types.py # of the public names; internal modules are left out
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

keywords: .venv/dev
	$(BIN)/python tests/make_keywords.py

docs: .venv/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The site is $(CURDIR)/build/site/index.html"

wheel: .venv/dev
	rm -rf build/lib
	$(BIN)/python -m build --wheel --outdir dist

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "impasto needs Python 3.10 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv || (rm -rf .venv; exit 1)

.venv/demo: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[photos]'
	touch $@

.venv/dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf build dist .venv .venv-lowest
