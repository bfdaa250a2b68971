# make train   set up, get MNIST, train LeNet, evaluate it, show the result
# make test    set up, check the code, run all tests
# make docs    build the pages as a site, into build/site
# Both install on the first call only: the first compiles kernels for this processor alone, the
# second all of them.

PYTHON ?= python3
BIN := .venv/bin
DEVELOPMENT := cmake distributed httpx hypothesis mypy nanobind==3.1.0 ninja playwright 'pyright[nodejs]' pytest ruff schemathesis scikit-learn scipy
DOCUMENTATION := furo jupytext myst-nb sphinx sphinx-copybutton

.PHONY: train test check bench docs notebooks clean

train: .venv/installed
	$(BIN)/lenet train mnist --figures

test: check
	$(BIN)/pytest

check: .venv/developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/developer
	$(BIN)/python -m benchmarks.speed train

docs: .venv/documentation
	$(BIN)/python -m sphinx -c docs -d build/doctrees --fail-on-warning --quiet . build/site
	@echo build/site/index.html

# Runs docs/articles.py, which takes some minutes, and keeps what it shows in the two notebooks.
notebooks: .venv/documentation
	$(BIN)/python docs/notebooks.py

SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard lenet/engine/src/*)
INSTALL = $(BIN)/pip install --constraint constraints.txt --no-compile \
	--config-settings cmake.define.LENET_INSTRUCTION_SETS=$(KERNELS) --editable

.venv/installed: KERNELS := native
.venv/installed: $(SOURCES) | $(BIN)/pip
	$(INSTALL) .
	touch $@

.venv/developer: KERNELS := all
.venv/developer: $(SOURCES) | $(BIN)/pip
	$(INSTALL) '.[hub,onnx,postgresql,sweep,tensorboard,torch,web]' $(DEVELOPMENT)
	touch .venv/installed $@

.venv/documentation: .venv/developer
	$(BIN)/pip install --constraint constraints.txt $(DOCUMENTATION)
	touch $@

$(BIN)/pip:
	$(PYTHON) -m venv --clear .venv

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
