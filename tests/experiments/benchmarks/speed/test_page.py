# SPDX-License-Identifier: Apache-2.0
"""The pages of make bench and make bench-gpu from made-up measurements with known ratios."""

import sys
from types import SimpleNamespace

import pytest

from experiments.benchmarks import parts
from experiments.benchmarks.speed import gpu, networks, page, run


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
    summary = run.summary(FOUND)
    ours, theirs = summary["rows"]
    assert (ours["ms_per_step"], ours["ms_lowest"], ours["ms_highest"]) == (20.0, 10.0, 300.0)
    assert (ours["speedup"], theirs["speedup"]) == (1.0, 1.5)
    assert summary["peak_gflops"] == 250.0
    # 12 x 64 tokens in 0.02 s; 6 FLOPs for each of 4 x 12 x 128^2 + 65 x 128 weights, and
    # 12 x 4 x 64 x 128 for attention.
    flops = 6 * (4 * 12 * 128**2 + 65 * 128) + 12 * 4 * 64 * 128
    assert ours["tokens_per_second"] == 38400
    assert ours["share_of_peak"] == round(flops * 38400 / 2.5e11, 3)


def test_the_page_shows_what_was_measured_and_why_the_rest_was_not():
    record = {
        "command": "make bench",
        "device": "a CPU",
        "cores": 2,
        "python": "3.11",
        "version_jax": "9.9",
        "versus": {
            "rounds": 3,
            "not_measured": {"PyTorch, compiled": "no compiler"},
            **run.summary(FOUND),
        },
        "parts": [{"setting": "1M", "ms": {"products": 3.0, "rest": 1.0}}],
        "dispatch": {"not_measured": "stopped after 5 s"},
        "head": {
            "vocab_size": 131072,
            "positions": 8192,
            "logits_bytes": 2**32,
            "rows": [
                {"n_loss_chunks": 1, "temp_bytes": 2**33},
                {"n_loss_chunks": 8, "temp_bytes": 2**31},
            ],
        },
    }
    text = page.page(record)
    assert "| nanogpt-char | PyTorch | 809856 | 30.0 | 29.0 | 31.0 |" in text
    assert "PyTorch, compiled: not measured, no compiler." in text
    assert "| products | 3.00 (75%) |" in text
    assert "Not measured: stopped after 5 s." in text
    assert "| 8 | 2048 | 0.25 |" in text
    assert "From the command" not in text


def test_a_profile_counts_every_operation_once_per_step_with_its_least_time():
    hlo = """
  %dot.1 = f32[8,8]{1,0} dot(%a, %b), metadata={op_name="jit(f)/jvp(bli,io->blo)/dot_general"}
  %fusion.2 = f32[8]{0} fusion(%c), metadata={op_name="jit(f)/transpose(jvp(mul))"}
  ROOT %dot.3 = f32[8]{0} dot(%a, %b), metadata={op_name="jvp(bglk,bgmk->bglm)/dot_general"}
  %add.4 = f32[8]{0} add(%a, %b), metadata={op_name="jit(f)/add"}
"""
    durations = {
        "dot.1": [2e6, 1e6],
        "fusion.2": [5e5, 9e5, 6e5, 5e5],
        "dot.3": [4e6, 3e6],
        "add.4": [1e5, 2e5],
        "while.5": [9e9, 9e9],
        "once": [7e7],
    }
    assert parts.by_part(durations, hlo, 2) == {
        "products of attention": 3.0,
        "products with weights, forward": 1.0,
        "element by element, backward": 1.0,
        "optimizer and the rest": 0.1,
    }


@pytest.fixture
def _h200(monkeypatch):
    known = SimpleNamespace(peak=lambda dtype: {"bfloat16": 9.894e14}[dtype], source="datasheet")
    table = SimpleNamespace(lookup={"NVIDIA H200": known}.get)
    monkeypatch.setitem(sys.modules, "model.hardware", table)


@pytest.mark.usefixtures("_h200")
def test_mfu_is_taken_of_the_datasheet_where_it_knows_the_device_else_of_what_was_measured():
    model = networks.SETTINGS["124M"].model
    n_params = 50304 * 768 + 1024 * 768 + 12 * (12 * 768**2 + 13 * 768) + 2 * 768
    weights = n_params - 1024 * 768 - 12 * 13 * 768 - 2 * 768
    full = 6 * weights + 12 * 12 * 1024 * 768
    causal = 6 * weights + 6 * 12 * 1024 * 768
    assert model.seq_len == 1024
    made = {"device_kind": "NVIDIA H200", "batch_size": 64, "n_params": n_params}
    known = gpu.row("isoflop", result("124M", 0.1, peak=7e14) | made)
    assert known["tokens_per_second"] == 655360
    assert known["mfu_full"] == pytest.approx(full * 655360 / 9.894e14, rel=1e-3)
    assert known["mfu_causal"] == pytest.approx(causal * 655360 / 9.894e14, rel=1e-3)
    made["device_kind"] = "something new"
    unknown = gpu.row("isoflop", result("124M", 0.1, peak=7e14) | made)
    assert unknown["mfu_full"] == pytest.approx(full * 655360 / 7e14, rel=1e-3)
    assert "measured" in unknown["peak_source"]
    slower = gpu.row("PyTorch, compiled", result("124M", 0.11) | made)
    rows = [known, slower]
    gpu.with_ratios(rows)
    assert [r["speedup"] for r in rows] == [1.0, 1.1]
    text = gpu.page(
        {
            "command": "make bench-gpu",
            "python": "3.12",
            "rows": rows,
            "not_measured": {"1.3B, isoflop": "no time was left of 540 s"},
        }
    )
    assert "| 124M | PyTorch, compiled |" in text
    assert "1.3B, isoflop: not measured, no time was left of 540 s" in text


def test_only_picks_networks_and_systems():
    assert gpu._chosen([]) == list(gpu.JOBS)
    assert gpu._chosen(["124M"]) == [("124M", gpu.OURS), ("124M", gpu.PEER)]
    assert gpu._chosen(["isoflop", "small"]) == [("small", gpu.OURS)]
