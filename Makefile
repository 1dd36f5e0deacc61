# SPDX-License-Identifier: Apache-2.0
# `make` lists the targets. They need Python 3.11+ with pip, and make; nothing else.

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

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-all check test-parity test-browser test-slurm test-kubernetes \
  test-chaos test-tpu check-tpu bench bench-truth bench-coverage bench-fit bench-saving \
  bench-noise bench-quickstart bench-forecast bench-holdout bench-isoflop bench-preparing \
  bench-scalebench bench-mixers bench-recall \
  bench-reliability clean

help: ## these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(VENV)/.ready ## a whole study on two CPU cores, from budgets to figures (5 minutes)
	$(BIN)/isoflop run quickstart

test: $(VENV)/.ready ## the quick tests
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not slow and $(ORDINARY)" tests

test-all: $(VENV)/.ready ## the slow ones too: whole studies, real training, simulated coverage
	TEST_OPTIMISED=1 $(BIN)/python -m pytest -q $(PARALLEL) -m "$(ORDINARY)" tests

check: $(VENV)/.ready ## format, lint, types, architecture, documents (under a minute)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_documents.py

test-chaos: $(VENV)/.ready ## kills, faults at every call, damaged files, full disks (as root: all)
	$(BIN)/python -m pytest -q -rs -m chaos tests/experiments/chaos

test-parity: .venv-parity/.ready ## networks and losses against Hugging Face and PyTorch
	.venv-parity/bin/python -m pytest -q -m parity tests/parity

test-browser: $(VENV)/.ready ## the report in a headless Chromium
	@command -v chromium >/dev/null 2>&1 || (apt-get update -qq && apt-get install -y -qq chromium)
	$(BIN)/python -m pytest -q -m browser tests/experiments/report

# Without root or apt the tests are skipped and say so. RUNLEVEL=1 keeps the packages from starting
# daemons of their own.
test-slurm: $(VENV)/.ready ## a real Slurm of its own on this machine
	@command -v slurmctld >/dev/null 2>&1 || (apt-get update -qq && \
	  RUNLEVEL=1 apt-get install -y -qq --no-install-recommends slurm-wlm munge) || true
	$(BIN)/python -m pytest -q -rs -m slurm tests/experiments/executors

test-kubernetes: .venv-kubernetes/.ready ## manifests against the published schemas (100 MB)
	.venv-kubernetes/bin/python -m pytest -q -rs -m kubernetes tests/experiments/executors

test-tpu: .venv-tpu/.ready ## programs compiled for TPUs that are not here
	.venv-tpu/bin/python -m pytest -q -rs -m tpu tests/experiments/checks/compile

check-tpu: $(VENV)/.ready .venv-tpu/.ready ## isoflop check of a 1B model on a TPU v5e 4x4
	$(BIN)/isoflop check large_1b --topology v5e:4x4

# The peers live in the environment of test-parity; where torch cannot be had they are left out.
bench: $(VENV)/.ready ## speed against PyTorch; on a GPU: run it with --gpu (see its docstring)
	-$(MAKE) .venv-parity/.ready
	$(BIN)/python -m experiments.benchmarks.speed.run

bench-mixers: $(VENV)/.ready ## each sequence mixer at T 256 to 4096, against torch and transformers
	-$(MAKE) .venv-parity/.ready
	$(BIN)/python -m experiments.benchmarks.speed.run --only layers

bench-recall: $(VENV)/.ready ## pairs that attention and small states recall (half an hour)
	$(BIN)/python -m experiments.benchmarks.recall

bench-truth: $(VENV)/.ready ## real training on five languages of known entropy (20 minutes)
	$(BIN)/python -m experiments.benchmarks.truth

bench-coverage: $(VENV)/.ready ## how often intervals hold the truth (2 to 3 hours)
	$(BIN)/python -m experiments.benchmarks.coverage.run

bench-fit: $(VENV)/.ready ## speed and certificates of fits against scipy
	$(BIN)/python -m experiments.benchmarks.fits

bench-saving: $(VENV)/.ready ## what --until and trunks save on one study (15 minutes)
	$(BIN)/python -m experiments.benchmarks.saving

bench-quickstart: $(VENV)/.ready ## the quickstart with other seeds and texts (2 hours; goes on)
	$(BIN)/python -m experiments.benchmarks.quickstart

bench-forecast: $(VENV)/.ready ## small studies that forecast 3 and 10 times beyond (goes on)
	$(BIN)/python -m experiments.benchmarks.forecasts

bench-holdout: $(VENV)/.ready ## how often forecasts hold published runs beyond the fitted ones
	$(BIN)/python -m experiments.benchmarks.holdout

bench-preparing: $(VENV)/.ready ## text to tokens: 1 GB as bytes and by BPE, speed and memory (8 minutes)
	$(BIN)/python -m experiments.benchmarks.preparing

bench-isoflop: $(VENV)/.ready ## Approach 2, joint and per budget, on public tables (6 minutes)
	$(BIN)/python -m experiments.benchmarks.isoflop

bench-scalebench: $(VENV)/.ready ## laws chosen on cheap rows of public tables, judged on dear ones (half an hour)
	$(BIN)/python -m experiments.benchmarks.scalebench.run choose
	$(BIN)/python -m experiments.benchmarks.scalebench.run score

bench-noise: $(VENV)/.ready ## where the spread of losses between seeds comes from
	$(BIN)/python -m experiments.benchmarks.noise

bench-reliability: $(VENV)/.ready ## the proofs that a grid loses nothing, counted (40 minutes)
	$(BIN)/python -m experiments.benchmarks.reliability

clean: ## remove the environments
	rm -rf $(ENVIRONMENTS) build *.egg-info

ENVIRONMENTS := $(VENV) .venv-parity .venv-kubernetes .venv-tpu
EXTRAS := dev
.venv-tpu/.ready: EXTRAS := dev,tpu
.venv-parity/.ready: PACKAGES := 'torch==2.13.0' 'transformers>=5' 'rwkv>=0.8.32'
.venv-kubernetes/.ready: PACKAGES := 'kubernetes-validate>=1.35'

$(ENVIRONMENTS:=/.ready): %/.ready: pyproject.toml $(CONSTRAINTS)
	@(command -v uv >/dev/null 2>&1 && \
	  uv venv --quiet --allow-existing --python $(PYTHON) $* && \
	  uv pip install --quiet --python $*/bin/python -c $(CONSTRAINTS) -e '.[$(EXTRAS)]' $(PACKAGES)) || \
	 ($(PYTHON) -m venv --clear $* && $*/bin/python -m pip install --quiet \
	  --disable-pip-version-check -c $(CONSTRAINTS) -e '.[$(EXTRAS)]' $(PACKAGES))
	@touch $@
