# Two commands matter: `make demo` and `make test`. Both set up everything they need in $(VENV).
#   make demo TORCH=torch==2.12.0        another torch
#   make demo PYTHON=/path/to/python3    an interpreter with torch >= 2.10 lends the packages it has
TORCH  ?= torch==2.13.0
PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2

PY := $(VENV)/bin/python
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)

SOURCES := CMakeLists.txt pyproject.toml $(shell find csrc -type f 2>/dev/null)

.PHONY: help demo test test-full bench bench-micro gpu clean dev-inplace
help:
	@echo "make demo        set up, build, and run the whole path on a real model"
	@echo "make test        set up, build, and run every check"
	@echo "make bench       the table of ratios to torch beside its bars, about 10 minutes; PEERS=1 adds other tools'"
	@echo "make gpu         build, test, golden vectors, benchmarks on a GPU, under 10 minutes; PART=, FRESH=1, ONLY= (docs/gpu.md)"
	@echo "make bench-micro kernel micro-benchmarks (pytest-benchmark)"
	@echo "make test-full   long sweeps, floor versions, the other Pythons found"
	@echo "make clean       remove the environment and everything built"

# TORCH= or PYTHON= given on the command line and not what the environment was made with: it is made anew.
GIVEN := $(filter-out file default,$(origin TORCH) $(origin PYTHON))
.PHONY: FORCE
$(VENV)/.choice: FORCE
	@if [ -f $@ ] && { [ -z "$(GIVEN)" ] || [ "$$(cat $@)" = "$(TORCH) $(PYTHON)" ]; }; then :; else \
	  rm -rf $(VENV) && mkdir -p $(VENV) && echo "$(TORCH) $(PYTHON)" >$@; fi
$(VENV)/.ready-demo: tools/setup_env.sh tools/preflight.sh $(VENV)/.choice
	@tools/setup_env.sh $(VENV) $(PYTHON) "$(TORCH)" demo
	@touch $@
$(VENV)/.ready-test: $(VENV)/.ready-demo
	@tools/setup_env.sh $(VENV) $(PYTHON) "$(TORCH)" test
	@touch $@
# Editable: a change of Python needs no new build; a change of C++ or of the build does.
$(VENV)/.built: $(VENV)/.ready-demo $(SOURCES)
	@echo "building the extension"
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

demo: $(VENV)/.built
	@$(PY) examples/demo

test: $(VENV)/.ready-test $(VENV)/.built
	@$(PY) tools/check.py

test-full: $(VENV)/.ready-test $(VENV)/.built
	@$(PY) tools/check.py --full

bench: $(VENV)/.ready-demo $(VENV)/.built
	@$(PY) benchmarks/suite $(if $(PEERS),--peers)

# PYTHON's own torch where it sees a GPU: no environment is made, and no index is asked. Without a GPU by the emulator.
GPU_ARGUMENTS = $(if $(PART),--part $(PART)) $(if $(FRESH),--fresh) $(if $(ONLY),--only "$(ONLY)")
gpu:
	@if $(PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then \
	  $(PYTHON) tools/gpu $(GPU_ARGUMENTS); \
	else \
	  $(MAKE) --no-print-directory $(VENV)/.ready-test $(VENV)/.built && $(PY) tools/gpu $(GPU_ARGUMENTS); \
	fi

bench-micro: $(VENV)/.ready-test $(VENV)/.built
	@$(PY) -m pytest benchmarks -q --benchmark-only --benchmark-columns=min,median,rounds

clean:
	rm -rf $(VENV) build dist demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f sparsecore/*.so simulator/*.so

# For work on the C++ side: the compiled modules beside the Python sources, built with whatever PYTHON has.
dev-inplace:
	cmake -S . -B build/dev -G Ninja -DCMAKE_BUILD_TYPE=Release -DPython_EXECUTABLE=$(shell command -v $(PYTHON)) \
	  -Dpybind11_DIR=$(shell $(PYTHON) -m pybind11 --cmakedir)
	cmake --build build/dev -j $(JOBS)
	cmake --install build/dev --prefix .
