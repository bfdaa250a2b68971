# make train   set up, get MNIST, train LeNet, evaluate it, show the result
# make test    set up, check the code, run all tests
# Both install on the first call only.

PYTHON ?= python3
BIN := .venv/bin
DEVELOPMENT := cmake httpx hypothesis nanobind==3.1.0 ninja playwright 'pyright[nodejs]' pytest ruff schemathesis scikit-learn scipy

.PHONY: train test check bench clean

train: .venv/installed
	$(BIN)/lenet train mnist --figures

test: check
	$(BIN)/pytest

check: .venv/developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/installed
	$(BIN)/lenet bench train

SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard lenet/engine/src/*)
INSTALL := $(BIN)/pip install --constraint constraints.txt --editable

.venv/installed: $(SOURCES) | $(BIN)/pip
	$(INSTALL) .
	touch $@

.venv/developer: $(SOURCES) | $(BIN)/pip
	$(INSTALL) '.[onnx,postgresql,sweep,tensorboard,torch,web]' $(DEVELOPMENT)
	touch .venv/installed $@

$(BIN)/pip:
	$(PYTHON) -m venv --clear .venv

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
