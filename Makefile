# make train   set up, get MNIST, train LeNet, evaluate it, show the result
# make test    set up, check the code, run all tests
# make fuzz    run the tests that try files and requests of all kinds, again and again for an hour
# All install on the first call only: the first compiles kernels for this processor alone, the
# second all of them.

PYTHON ?= python3
BIN := .venv/bin
DEVELOPMENT := cmake distributed httpx hypothesis nanobind==3.1.0 ninja playwright 'pyright[nodejs]' pytest pytest-xdist ruff schemathesis scikit-learn scipy

FUZZ_SECONDS := 3600

.PHONY: train test check fuzz bench clean

train: .venv/installed
	$(BIN)/lenet train mnist --figures

test: check
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal

check: .venv/developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

fuzz: .venv/developer
	end=$$(($$(date +%s) + $(FUZZ_SECONDS))); while [ $$(date +%s) -lt $$end ]; do \
		$(BIN)/pytest -m fuzz --hypothesis-profile=long || exit 1; done

bench: .venv/developer
	$(BIN)/python -m benchmarks.speed train

SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard lenet/engine/src/*)
INSTALL = $(BIN)/pip install --constraint constraints.txt --no-compile \
	--config-settings cmake.define.LENET_INSTRUCTION_SETS=$(KERNELS) --editable

.venv/installed: KERNELS := native
.venv/installed: $(SOURCES) | $(BIN)/pip
	$(INSTALL) .
	touch $@

.venv/developer: KERNELS := all
.venv/developer: $(SOURCES) | $(BIN)/pip
	$(INSTALL) '.[onnx,postgresql,sweep,tensorboard,torch,web]' $(DEVELOPMENT)
	touch .venv/installed $@

$(BIN)/pip:
	$(PYTHON) -m venv --clear .venv

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
