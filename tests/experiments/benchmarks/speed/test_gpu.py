# SPDX-License-Identifier: Apache-2.0
"""The GPU benchmark's own path, in seconds on a CPU."""

import json
import subprocess
import sys

import pytest

# What a machine with JAX, Flax, Optax and torch may lack.
ABSENT = ("grain", "orbax", "msgspec", "scipy", "matplotlib", "pyarrow", "jinja2")
BARE = """
import sys
for name in {absent}:
    sys.modules[name] = None
from experiments.benchmarks.speed import gpu, networks, ours
from dataclasses import replace
found = ours.measure_largest(networks.SETTINGS["tiny-llama"])
print(found["n_params"])
"""


def test_it_needs_no_data_loader_checkpoints_or_anything_of_the_command_line():
    script = BARE.format(absent=ABSENT)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    # 64 x 32 embeddings, 5 norms, two layers of 4 x 32^2 and 3 x 32 x 48.
    assert done.stdout.split() == [str(64 * 32 + 5 * 32 + 2 * (4 * 32**2 + 3 * 32 * 48))]


def test_without_a_gpu_it_says_so_in_one_line():
    command = [sys.executable, "-m", "experiments.benchmarks.speed.ours", "gpu", "tiny-gpt2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "JAX sees no GPU here" in done.stderr.splitlines()[-1]


def test_the_tiny_path_writes_both_systems_and_what_was_not_measured(tmp_path):
    pytest.importorskip("model.hardware")
    command = [sys.executable, "-m", "experiments.benchmarks.speed.gpu", "--device", "cpu"]
    command += ["--tiny", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "gpu_speed.json").read_text())
    systems = {row["system"] for row in record["rows"]}
    assert "isoflop" in systems
    assert systems | set(record.get("not_measured", {})) >= {"isoflop"}
    assert len(record["rows"]) + len(record.get("not_measured", {})) == 2
    for row in record["rows"]:
        assert row["tokens_per_second"] > 0
        assert 0 < row["mfu_causal"] < row["mfu_full"]
    assert "| tiny-gpt2 | isoflop |" in (tmp_path / "gpu_speed.md").read_text()
