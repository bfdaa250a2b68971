# make train   set up, get MNIST, train LeNet, evaluate it, show the result
# make test    set up, check the code, run all tests
# make fuzz    run the tests that try files and requests of all kinds, again and again for an hour
# make docs    build the pages as a site, into build/site
# All install on the first call only: the first compiles kernels for this processor alone, the
# others all of them.

PYTHON ?= python3
BIN := .venv/bin
DEVELOPMENT := cmake distributed httpx hypothesis mypy nanobind==3.1.0 ninja playwright 'pyright[nodejs]' pytest pytest-xdist ruff schemathesis scikit-learn scipy
DOCUMENTATION := furo jupytext myst-nb sphinx sphinx-copybutton
FUZZ_SECONDS := 3600

.PHONY: train test check fuzz bench docs notebooks clean

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
