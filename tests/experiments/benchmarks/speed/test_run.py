# SPDX-License-Identifier: Apache-2.0
"""make bench: ratios of made-up measurements, what its page says, and its own path in seconds."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from experiments.benchmarks.speed import run
from experiments.benchmarks.speed.page import page

FACTS = {"device": "a CPU", "cores": 2, "python": "3.11", "git_commit": "0123456789"}
# What a machine with JAX, Flax, Optax and torch may lack.
ABSENT = ("grain", "orbax", "scipy", "matplotlib", "pyarrow", "jinja2")
BARE = """
import sys
for name in {absent}:
    sys.modules[name] = None
from experiments.benchmarks.speed import networks, ours, run
found = ours.measure_largest(networks.SETTINGS["tiny-llama"])
print(found["n_params"])
"""


def result(setting, seconds, peak=2e11, **more):
    return {
        "setting": setting,
        "batch_size": 12,
        "seconds": seconds,
        "first_step_seconds": 3.0,
        "first_loss": 4.2,
        "n_params": 809856,
        "peak_flops_per_second": peak,
        "device_kind": "cpu",
        "versions": {"jax": "9.9"},
        **more,
    }


FOUND = {
    "isoflop": [result("nanogpt-char", s) for s in (0.020, 0.010, 0.300)],
    "PyTorch": [result("nanogpt-char", s, peak=2.5e11) for s in (0.030, 0.031, 0.029)],
}


def test_medians_ratios_and_the_largest_peak():
    ours, theirs = run.summary(FOUND)["rows"]
    assert (ours["ms_per_step"], ours["ms_lowest"], ours["ms_highest"]) == (20.0, 10.0, 300.0)
    assert (ours["speedup"], theirs["speedup"]) == (1.0, 1.5)
    assert ours["peak_gflops"] == theirs["peak_gflops"] == 250.0
    # 12 x 64 tokens in 0.02 s; 6 FLOPs for each of 4 x 12 x 128^2 + 65 x 128 weights, and
    # 12 x 4 x 64 x 128 for attention.
    flops = 6 * (4 * 12 * 128**2 + 65 * 128) + 12 * 4 * 64 * 128
    assert ours["tokens_per_second"] == 38400
    assert ours["mfu_full"] == pytest.approx(flops * 38400 / 2.5e11, rel=5e-3)


def test_the_page_shows_what_was_measured_and_why_the_rest_was_not():
    missing = {"PyTorch, compiled (10M)": "no compiler"}
    found = {"rounds": 3, "not_measured": missing, **run.summary(FOUND), **FACTS}
    text = page({"cpu": {"peers": found}})
    assert "| nanogpt-char | PyTorch | 809856 | 12 | 30.0 | 29.0 | 31.0 |" in text
    assert "PyTorch, compiled (10M): not measured, no compiler." in text
    assert "a CPU, 2 cores; Python 3.11, jax 9.9; commit 0123456." in text
    assert text.count("Not measured: `python -m experiments.benchmarks.speed.run --gpu`") == 1
    assert "Runs that train together" not in text


def test_shares_are_of_the_datasheet_where_it_knows_the_device_else_of_what_was_measured(
    monkeypatch,
):
    known = SimpleNamespace(peak=lambda dtype: {"bfloat16": 9.894e14}[dtype], source="datasheet")
    monkeypatch.setattr(run, "lookup", {"NVIDIA H200": known}.get)
    n_params = 50304 * 768 + 1024 * 768 + 12 * (12 * 768**2 + 13 * 768) + 2 * 768
    weights = n_params - 1024 * 768 - 12 * 13 * 768 - 2 * 768
    full = 6 * weights + 12 * 12 * 1024 * 768
    causal = 6 * weights + 6 * 12 * 1024 * 768
    made = {"device_kind": "NVIDIA H200", "batch_size": 64, "n_params": n_params}
    results = {
        "isoflop": [result("124M", 0.1, peak=7e14) | made],
        "PyTorch, compiled": [result("124M", 0.11) | made],
    }
    ours, slower = run.summary(results)["rows"]
    assert ours["tokens_per_second"] == 655360
    assert ours["mfu_full"] == pytest.approx(full * 655360 / 9.894e14, rel=5e-3)
    assert ours["mfu_causal"] == pytest.approx(causal * 655360 / 9.894e14, rel=5e-3)
    assert (ours["speedup"], slower["speedup"]) == (1.0, 1.1)
    made["device_kind"] = "something new"
    (unknown,) = run.summary({"isoflop": [result("124M", 0.1, peak=7e14) | made]})["rows"]
    assert unknown["mfu_full"] == pytest.approx(full * 655360 / 7e14, rel=5e-3)
    assert "any system reached" in unknown["peak_source"]


def test_a_gpu_has_a_process_for_each_network_and_a_cpu_one_for_all():
    assert run.jobs("gpu", None, None)[:3] == [
        ("isoflop", ["124M"]),
        ("PyTorch, compiled", ["124M"]),
        ("isoflop", ["1.3B"]),
    ]
    cpu = run.jobs("cpu", None, None)
    assert cpu[0] == ("isoflop", ["nanogpt-char", "1M", "10M"])
    assert len(cpu) == 5
    assert run.jobs("cpu", ["1M"], ["PyTorch"]) == [("PyTorch", ["1M"])]


@pytest.mark.slow(reason="8 s: it measures")
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


@pytest.mark.slow(reason="10 s: it measures")
def test_one_system_is_measured_anew_and_the_rest_of_the_record_stays(tmp_path):
    kept = {"gpu": {"packs": {"rows": [], "versions": {}, **FACTS}}}
    (tmp_path / "speed.json").write_text(json.dumps(kept))
    command = [sys.executable, "-m", "experiments.benchmarks.speed.run", "--only", "peers"]
    command += ["--networks", "tiny-gpt2", "--systems", "isoflop", "--rounds", "1"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "speed.json").read_text())
    assert record["gpu"] == kept["gpu"]
    (row,) = record["cpu"]["peers"]["rows"]
    assert row["tokens_per_second"] > 0
    assert 0 < row["mfu_causal"] < row["mfu_full"]
    assert "| tiny-gpt2 | isoflop |" in (tmp_path / "speed.md").read_text()
