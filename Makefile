PYTHON ?= python3
VENV ?= .venv
OLDEST_VENV ?= .venv-oldest
# What `setup` installs: an extra of pyproject.toml, at these versions.
EXTRA ?= dev
PINS ?= constraints/cpu.txt
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
# A machine with a GPU may bring its own environment; it is used when there is no venv.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

# Benchmarks compare algorithms, not thread pools.
ONE_THREAD = OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage test-slow test-kernels test-oldest test-gpu gpu-check gpu-registers gpu-wheels soak mutants long-runs long-runs-status lint format docs docs-serve bench bench-dense bench-compress bench-peers bench-sparse bench-scaling bench-gradient bench-recurrence bench-training bench-reduction bench-compression bench-warnings bench-streaming bench-imports bench-conversion bench-table bench-all bench-gpu clean

help:  ## List all targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

setup: $(INSTALLED)  ## Make the virtual environment with pinned CPU packages

$(INSTALLED): pyproject.toml $(PINS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint $(PINS) --editable '.[$(EXTRA)]'
	touch $(INSTALLED)

demo: setup  ## Train, compress and report on real digits (3.5 minutes on two cores), into runs/demo
	$(BIN)/python -m experiments demo

# One process for each core, each with one BLAS thread.
PYTEST = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test: setup  ## Run the tests
	$(PYTEST) -m "not slow"

coverage: setup  ## Run the tests and see which lines and branches they reach
	$(PYTEST) -m "not slow" --cov --cov-report=term:skip-covered

test-slow: setup  ## Run the tests that take long
	$(PYTEST) -m slow

test-kernels: setup  ## Run the core tests under every OpenBLAS kernel that this processor can run
	$(BIN)/python tests/openblas_kernels.py

test-oldest:  ## Run the tests at the lower bounds of the dependencies, in an environment of its own
	$(MAKE) VENV=$(OLDEST_VENV) EXTRA=test PINS=constraints/oldest.txt test

test-gpu:  ## Run the tests that need a CUDA device; fails without one
	REQUIRE_GPU=1 $(GPU_PYTHON) -m pytest -m gpu tests/gpu

gpu-check:  ## Ask a CUDA device all there is to ask in 8 minutes, one stage after another, into gpu-check
	$(GPU_PYTHON) tests/gpu_check.py $(STAGES)

gpu-registers:  ## Registers and spills of the CUDA kernels as ptxas has them, into benchmarks/results
	$(GPU_PYTHON) tests/gpu_registers.py

gpu-wheels:  ## What gpu-check needs and a bare CUDA machine has not, into .wheels
	$(GPU_PYTHON) -m pip download --quiet --no-deps --only-binary :all: --dest .wheels \
		--constraint $(PINS) array-api-compat

SECONDS ?= 1200
SEED ?= 0

soak: setup  ## Random systems through every public function, against 120 digits: SECONDS=1200 SEED=0
	$(ONE_THREAD) OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak --seconds $(SECONDS) --seed $(SEED)

mutants: setup  ## Change the code in known places and see the tests fail; FILES="schedule _split" for some
	$(ONE_THREAD) OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py $(FILES)

# Of all runs the longest: one thread at the lowest priority. Freed memory is kept and taken again,
# in huge pages: a fifth of a training step is the kernel's work on fresh pages otherwise.
LONG_RUNS = $(ONE_THREAD) OMP_NUM_THREADS=1 \
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=17179869184:glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=1073741824 \
	nice -n 19 $(BIN)/python -m experiments long-runs

long-runs: setup  ## Go on with the runs of the papers' own size; Ctrl-C saves and stops, the same command goes on
	$(LONG_RUNS)

long-runs-status: setup  ## How much of them is done
	$(LONG_RUNS) --status

lint: setup  ## Check style (ruff) and types (mypy, pyright)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

format: setup  ## Apply the formatter
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

DOCS = $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--constraint constraints/cpu.txt --editable '.[docs]' && $(ONE_THREAD) OMP_NUM_THREADS=1 $(BIN)/mkdocs

docs: setup  ## Build the documentation, its tutorials run, into site
	$(DOCS) build

docs-serve: setup  ## Build the documentation and show it at 127.0.0.1:8000; tutorials run when they change
	export CACHED_TUTORIALS=true; $(DOCS) serve

bench: setup  ## Run the benchmarks and print the ratios
	$(ONE_THREAD) $(BIN)/python -m pytest benchmarks --benchmark-only -o python_files="bench_*.py" \
		--benchmark-group-by=group --benchmark-columns=median,iqr,rounds

bench-dense: setup  ## Time dense systems beside SLICOT, into benchmarks/results
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints/cpu.txt --editable '.[peers]'
	$(ONE_THREAD) $(BIN)/python benchmarks/dense.py

bench-compress: setup  ## Time compress, and SLICOT for the layers alone, into benchmarks/results
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints/cpu.txt --editable '.[peers]'
	$(ONE_THREAD) OMP_NUM_THREADS=1 $(BIN)/python benchmarks/compress_seconds.py

bench-peers: setup  ## Time lticore against SciPy, SLICOT and pyMOR, into benchmarks/results
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints/cpu.txt --editable '.[peers]'
	$(ONE_THREAD) $(BIN)/python benchmarks/peers.py

bench-sparse: setup  ## Time lticore against pyMOR on sparse models, into benchmarks/results
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints/cpu.txt --editable '.[peers]'
	$(ONE_THREAD) $(BIN)/python benchmarks/sparse.py

bench-scaling: setup  ## Plot how cost grows with the number of states, into benchmarks/results
	$(ONE_THREAD) $(BIN)/python benchmarks/scaling.py

bench-gradient: setup  ## Time Hankel-sum gradients and regularised training, into benchmarks/results
	$(ONE_THREAD) $(BIN)/python benchmarks/gradient.py

bench-recurrence: setup  ## Time recurrences beside plain torch and memory, into benchmarks/results
	$(BIN)/python benchmarks/recurrence.py

bench-training: setup  ## Time training steps beside plain torch, into benchmarks/results
	$(BIN)/python benchmarks/training.py

bench-reduction: setup  ## Compare reduction methods: errors, time, evaluations, into benchmarks/results
	$(ONE_THREAD) $(BIN)/python benchmarks/bench_reduction.py

bench-compression: setup  ## Compress trained classifiers in every way, after and during training, into benchmarks/results
	$(ONE_THREAD) OMP_NUM_THREADS=1 $(BIN)/python benchmarks/compression.py

bench-warnings: setup  ## Count warnings of rounding that are missing or needless, into benchmarks/results
	$(ONE_THREAD) $(BIN)/python benchmarks/rounding_warnings.py

bench-streaming: setup  ## Time single steps of streaming models, into benchmarks/results
	$(ONE_THREAD) OMP_NUM_THREADS=1 $(BIN)/python benchmarks/streaming.py

bench-imports: setup  ## Time imports beside those of NumPy, SciPy and torch, into benchmarks/results
	$(BIN)/python benchmarks/imports.py

bench-conversion: setup  ## Time layers of other packages beside what convert makes of them, into benchmarks/results
	$(ONE_THREAD) OMP_NUM_THREADS=1 $(BIN)/python benchmarks/conversion.py

bench-table: setup  ## One table of the results in benchmarks/results, and what got slower
	$(BIN)/python benchmarks/table.py

bench-all: bench-peers bench-dense bench-compress bench-sparse bench-scaling bench-gradient bench-recurrence bench-training bench-reduction bench-compression bench-warnings bench-streaming bench-imports bench-conversion bench-table  ## Run all benchmarks (hours), and make the table

bench-gpu:  ## Time the CUDA kernels and functions on a device, into benchmarks/results
	$(GPU_PYTHON) benchmarks/gpu.py

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) $(OLDEST_VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
