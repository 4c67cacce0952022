# The two commands of a newcomer, each complete on a fresh machine:
#
#   make train   trains and evaluates an FCN-8s on a sample data set, report in runs/
#   make test    runs the tests
#
# and `make bench`, `make lint`, `make format`, `make docs`, `make cuda` (compile for every GPU
# architecture), `make gpu-model` (what they would issue there), `make test-torch TORCH=2.14.1` (the
# tests of operators and nets under another torch), `make integrations` (models of other libraries,
# plain and in the context; docs/integrations.md). `make fuzz`, `faults`, `sanitize`, `coverage`, `abi`,
# `oldest` and `wheel` prove at length what the tests show in part; CONTRIBUTING.md has the table.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PIP_INSTALL := $(PIP) install --quiet --no-compile --constraint constraints.txt

# Where there is a GPU, the CUDA operators are compiled for it; where there is none, not at all.
GPU_ARCHITECTURES := $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null \
                       | tr -d . | sort -u | paste -sd ';' -)
ifneq ($(GPU_ARCHITECTURES),)
export FCN_EXT_CUDA ?= auto
export FCN_EXT_CUDA_ARCHITECTURES ?= $(GPU_ARCHITECTURES)
else
export FCN_EXT_CUDA ?= off
endif

# Another torch's environment; a build with CUDA takes several GB.
TORCH_VENV ?= build/torch-$(TORCH)

SOURCES := CMakeLists.txt pyproject.toml constraints.txt $(wildcard tools/*.py cmake/*) \
           $(shell find csrc -type f)
CXX_FILES = $(shell git ls-files '*.c' '*.cpp' '*.h' '*.cu' '*.cuh')

.PHONY: train test test-torch integrations bench lint format docs cuda gpu-model clean
.PHONY: fuzz faults sanitize coverage abi oldest wheel

train: $(VENV)/installed
	$(BIN)/fcn train

test: $(VENV)/installed
	$(BIN)/python -m pytest -n $$(nproc) --dist worksteal

# One wheel, built against the torch of $(VENV), serves every other: torch's stable ABI.
test-torch: build/wheel/built
	PYTHON=$(BIN)/python tools/test_torch.sh build/wheel/*.whl '$(TORCH)' '$(TORCH_VENV)'

# In an environment of its own, with the one wheel and the libraries of tools/integrations.sh.
integrations: build/wheel/built
	PYTHON=$(BIN)/python tools/integrations.sh build/wheel/*.whl build/integrations

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

# The pages of docs/, in docs/_build/html/index.html. A warning is an error.
docs: $(VENV)/docs-installed
	$(BIN)/python -m sphinx -b html -W --keep-going -q -c docs -d docs/_build/doctrees . docs/_build/html

# The CUDA operators for every architecture, on any machine with nvcc; -Xptxas -v in build/cuda/log.
cuda: $(VENV)/installed
	tools/build_cuda.sh $(BIN)/python build/cuda

# What the benchmarks' rows would issue on a GPU, from the machine code that `make cuda` leaves.
gpu-model: $(VENV)/installed
	@test -f build/cuda/libfcn_ext_cuda.so || { echo "run make cuda first"; exit 1; }
	$(PIP) install --quiet nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm
	$(BIN)/python tools/gpu_model.py build/cuda/libfcn_ext_cuda.so

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch first, at its pinned version: everything else is content with the one that is there. Modules
# are compiled when they are first imported, which most of torch's never are.
$(VENV)/installed: $(BIN)/python $(SOURCES)
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) cmake ninja pybind11 scikit-build-core
	$(PIP_INSTALL) --no-build-isolation --editable '.[dev]'
	touch $@

build/wheel/built: $(VENV)/installed $(shell git ls-files fcn_ext python)
	rm -rf build/wheel
	$(PIP) wheel --quiet --no-build-isolation --no-deps --wheel-dir build/wheel .
	touch $@

$(VENV)/docs-installed: $(VENV)/installed
	$(PIP_INSTALL) --no-build-isolation --editable '.[docs]'
	touch $@

# Proofs: CONTRIBUTING.md says what each shows and how long it takes.

# MINUTES= or CASES= (100,000 of each function), SEED=, ONLY="upsample argmax".
fuzz: $(VENV)/installed
	$(BIN)/python -m tests.fuzz $(if $(CASES),--cases $(CASES)) $(if $(MINUTES),--minutes $(MINUTES)) \
	  $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

# Every write of a run fails or kills it once; hostile files by the hundred.
faults: $(VENV)/installed
	FCN_LONG_TESTS=1 $(BIN)/python -m pytest tests/train/faults tests/train/hostile

# The operators and the fuzz under AddressSanitizer and UBSan; minutes to build. CASES= of the fuzz,
# SANITIZE_CAPABILITIES="plain" for one set of instructions.
sanitize: $(VENV)/installed
	CASES=$(or $(CASES),2000) CAPABILITIES='$(SANITIZE_CAPABILITIES)' \
	  tools/sanitize.sh $(BIN)/python build/sanitize

# Lines of both packages, and argument checks that no test breaks; build/coverage/index.html.
coverage: $(VENV)/installed
	$(BIN)/python -m pytest -q -n $$(nproc) --dist worksteal --cov=fcn_ext --cov=fcn_train \
	  --cov-report=json:build/coverage.json --cov-report=html:build/coverage
	$(BIN)/python tools/check_coverage.py build/coverage.json

# One wheel under several torches, on the CPU; each environment takes its torch's size. DRY_RUN=1 says
# what would be run.
ABI_TORCHS ?= 2.11.0 2.13.0 newest
abi: build/wheel/built
	tools/abi.sh build/wheel/*.whl $(BIN)/python $(ABI_TORCHS)

# The program with the oldest versions of its dependencies that pyproject.toml allows.
oldest: build/wheel/built
	tools/oldest.sh build/wheel/*.whl $(BIN)/python build/oldest

# The files of a release, in dist/: a wheel for other Linux systems, and a source archive.
wheel: build/wheel/built
	tools/wheel.sh $(BIN)/python build/wheel/*.whl dist

clean:
	rm -rf $(VENV) build docs/_build
