# SPDX-License-Identifier: Apache-2.0
# `make quickstart` and `make test` need Python 3.11+ with pip, and make; nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
# One process per core; a file's tests stay together, they share what they compile.
PARALLEL := -n auto --maxprocesses 8 --dist loadfile
# What needs something from outside has a target of its own.
ORDINARY := not parity and not browser and not slurm and not kubernetes and not chaos and not tpu
# uv where it is there and works: the same packages, seconds instead of half a minute.
export UV_PYTHON_DOWNLOADS := never

.PHONY: quickstart test test-all test-parity test-browser test-slurm test-kubernetes test-chaos test-tpu \
  check check-tpu bench bench-gpu bench-truth bench-coverage bench-fit bench-reliability bench-check \
  bench-design bench-pack bench-saving bench-saving-again clean

quickstart: $(VENV)/.ready
	$(BIN)/isoflop run quickstart

test: $(VENV)/.ready
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not slow and $(ORDINARY)" tests

test-all: $(VENV)/.ready
	$(BIN)/python -m pytest -q $(PARALLEL) -m "$(ORDINARY)" tests

# Minutes of kills, faults at every call, damaged files and full disks; as root for all of them.
test-chaos: $(VENV)/.ready
	$(BIN)/python -m pytest -q -rs -m chaos tests/experiments/chaos

check: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

# The peers live in the environment of test-parity; where torch cannot be had they are left out.
bench: $(VENV)/.ready
	-$(MAKE) .venv-parity/.ready
	$(BIN)/python -m experiments.benchmarks.speed.run

# With the Python that has JAX for the GPU, and torch: make bench-gpu GPU_PYTHON=python
GPU_PYTHON ?= $(BIN)/python
bench-gpu:
	$(GPU_PYTHON) -m experiments.benchmarks.speed.gpu

bench-truth: $(VENV)/.ready
	$(BIN)/python -m experiments.benchmarks.truth

# On a GPU, with the Python that has JAX for it: python -m experiments.benchmarks.speed.packs --device gpu
bench-pack: $(VENV)/.ready
	$(BIN)/python -m experiments.benchmarks.speed.packs

bench-coverage: $(VENV)/.ready
	$(BIN)/python -m experiments.benchmarks.coverage.run

# One study run in every way that we have; some forty minutes on two cores.
bench-saving: $(VENV)/.ready
	$(BIN)/python -m experiments.benchmarks.saving

# Its ways that choose their runs again, with other seeds; some ninety minutes on two cores.
bench-saving-again: $(VENV)/.ready
	$(BIN)/python -m experiments.benchmarks.saving_again

# Some ten minutes on one core.
bench-design: $(VENV)/.ready
	$(BIN)/python -m experiments.benchmarks.design

bench-reliability: $(VENV)/.ready
	$(BIN)/python -m experiments.benchmarks.reliability.run

# Half an hour of compiling on two cores.
bench-check: $(VENV)/.ready .venv-tpu/.ready
	$(BIN)/python -m experiments.benchmarks.check

# An environment of its own: the peers that it is compared with, where this Python has them.
bench-fit: .venv-bench/.ready
	.venv-bench/bin/python -m experiments.benchmarks.fits

# An environment of its own: torch and transformers (CPU) are no dependencies of the project.
test-parity: .venv-parity/.ready
	.venv-parity/bin/python -m pytest -q -m parity tests/parity

test-browser: $(VENV)/.ready
	@command -v chromium >/dev/null 2>&1 || (apt-get update -qq && apt-get install -y -qq chromium)
	$(BIN)/python -m pytest -q -m browser tests/browser

# A Slurm of its own on this machine; without root or apt the tests are skipped and say so.
# RUNLEVEL=1 keeps the packages from starting daemons of their own.
test-slurm: $(VENV)/.ready
	@command -v slurmctld >/dev/null 2>&1 || (apt-get update -qq && \
	  RUNLEVEL=1 apt-get install -y -qq --no-install-recommends slurm-wlm munge) || true
	$(BIN)/python -m pytest -q -rs -m slurm tests/experiments/executors

# An environment of its own: the published schemas are 100 MB.
test-kubernetes: .venv-kubernetes/.ready
	.venv-kubernetes/bin/python -m pytest -q -rs -m kubernetes tests/experiments/executors

# TPU programs are compiled without a TPU, where libtpu is: minutes, and memory for one compiler.
check-tpu: $(VENV)/.ready .venv-tpu/.ready
	$(BIN)/isoflop check large_1b --topology v5e:4x4

test-tpu: .venv-tpu/.ready
	.venv-tpu/bin/python -m pytest -q -rs -m tpu tests/experiments/check

$(VENV)/.ready: pyproject.toml $(CONSTRAINTS)
	@(command -v uv >/dev/null 2>&1 && \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	  uv pip install --quiet --python $(BIN)/python -c $(CONSTRAINTS) -e '.[dev]') || \
	 ($(PYTHON) -m venv --clear $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]')
	@touch $@

.venv-parity/.ready: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv-parity
	.venv-parity/bin/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[dev]' 'torch==2.13.0' 'transformers>=5'
	@touch $@

.venv-tpu/.ready: pyproject.toml $(CONSTRAINTS)
	@(command -v uv >/dev/null 2>&1 && \
	  uv venv --quiet --allow-existing --python $(PYTHON) .venv-tpu && \
	  uv pip install --quiet --python .venv-tpu/bin/python -c $(CONSTRAINTS) -e '.[dev,tpu]') || \
	 ($(PYTHON) -m venv --clear .venv-tpu && \
	  .venv-tpu/bin/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[dev,tpu]')
	@touch $@

.venv-kubernetes/.ready: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv-kubernetes
	.venv-kubernetes/bin/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[dev]' 'kubernetes-validate>=1.35'
	@touch $@

.venv-bench/.ready: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet -c $(CONSTRAINTS) -e .
	-.venv-bench/bin/python -m pip install --quiet simple-scaling-laws
	@touch $@

clean:
	rm -rf .venv .venv-bench .venv-kubernetes .venv-parity .venv-tpu build *.egg-info
