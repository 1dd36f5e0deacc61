# SPDX-License-Identifier: Apache-2.0
"""make bench-mixers: ratios and growth of made-up times, its page, and its own path in seconds."""

import json
import subprocess
import sys

import pytest

from experiments.benchmarks.speed import layers
from experiments.benchmarks.speed.page import page

FACTS = {"device": "a CPU", "cores": 2, "python": "3.11", "git_commit": "0123456789"}


def line(length, micros, **versions):
    return {"seq_len": length, "seconds_per_token": 1e-6 * micros, "versions": versions}


def test_rows_have_medians_ratios_and_growth_and_say_what_is_missing():
    found = {
        ("our_layers", "lstm", 2): [line(512, m, jax="9") for m in (9, 10, 50)] + [line(4096, 11)],
        ("their_layers", "lstm", 2): [line(512, 15, torch="8"), line(4096, 30)],
        ("our_layers", "lstm", 1): [line(512, 20)],
        ("their_layers", "lstm", 1): [line(512, 22), line(4096, 40)],
        ("our_layers", "rwkv7", 2): [line(512, 10)],
    }
    made = layers.summary(found)
    assert made["versions"] == {"jax": "9", "torch": "8"}
    short, long = made["rows"]
    assert (short["mixer"], short["seq_len"], short["ours"]) == ("lstm", 512, 100_000)
    assert (short["theirs"], short["speedup"], short["growth"]) == (66_667, 1.5, 1.0)
    assert (short["speedup_one_core"], long["speedup_one_core"]) == (1.1, None)
    assert (long["speedup"], long["growth"], long["their_growth"]) == (2.73, 1.1, 2.0)
    text = page({"cpu": {"layers": FACTS | made | {"rounds": 3, "not_measured": {"rwkv7": "why"}}}})
    assert "| lstm | torch.nn.LSTM | 512 | 100000 | 66667 | 1.5 | 1.1 | 1.0 | 1.0 |" in text
    assert "| lstm | torch.nn.LSTM | 4096 | 90909 | 33333 | 2.73 |  | 1.1 | 2.0 |" in text
    assert "- rwkv7: not measured, why." in text


@pytest.mark.slow(reason="8 s: a process that starts JAX and compiles")
def test_a_mixer_of_ours_is_measured_in_a_process_of_its_own():
    command = [sys.executable, "-m", "experiments.benchmarks.speed.our_layers", "gru", "16", "32"]
    command += ["--cores", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    assert [one["seq_len"] for one in lines] == [16, 32]
    assert all(one["seconds_per_token"] > 0 for one in lines)
