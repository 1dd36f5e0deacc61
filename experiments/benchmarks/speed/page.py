# SPDX-License-Identifier: Apache-2.0
"""results/benchmarks/speed.md from what make bench measured."""

from collections.abc import Callable
from typing import Any

from experiments.benchmarks.speed import networks


def page(record: dict[str, Any]) -> str:
    """Sections in the order of the record; parts that were not asked for are left out."""
    lines = [
        "# Training speed on a CPU",
        "",
        f"`{record['command']}` on {record['device']}, {record['cores']} cores, float32; Python "
        f"{record['python']}, jax {record['version_jax']}.",
    ]
    for name, section in SECTIONS.items():
        if name in record:
            found = record[name]
            is_missing = isinstance(found, dict) and "rows" not in found and "not_measured" in found
            body = [f"Not measured: {found['not_measured']}."] if is_missing else section(found)
            lines += ["", f"## {TITLES[name]}", "", *body]
    return "\n".join([*lines, ""])


def table(rows: list[dict[str, Any]], names: dict[str, str]) -> list[str]:
    """Markdown; ``names`` maps keys of the rows to the heads of their columns, in order."""
    lines = [f"| {' | '.join(names.values())} |", f"|{'---|' * len(names)}"]
    return lines + [f"| {' | '.join(str(row.get(k, '')) for k in names)} |" for row in rows]


def _versus(found: dict[str, Any]) -> list[str]:
    peaks = ", ".join(f"{system} {peak}" for system, peak in found["peaks_gflops"].items())
    shapes = [
        f"{s.name}: {s.model.n_layers} layers, d {s.model.d_model}, {s.model.n_heads} heads, d_ff "
        f"{s.model.d_ff}, T {s.model.seq_len}, V {s.model.vocab_size}, batch {s.batch_size}, "
        f"{s.n_steps} steps per repeat and per dispatch of ours."
        for s in networks.CPU
    ]
    missing = [f"{system}: not measured, {why}." for system, why in found["not_measured"].items()]
    names = {
        "setting": "network",
        "system": "system",
        "n_params": "parameters",
        "ms_per_step": "ms / step",
        "ms_lowest": "lowest",
        "ms_highest": "highest",
        "tokens_per_second": "tokens / s",
        "share_of_peak": "share of peak",
        "speedup": "isoflop is faster by",
        "first_step_seconds": "first step, s",
    }
    return [
        f"Two threads each, one process per system, {found['rounds']} rounds in turn; medians of "
        f"the rounds. torch {found.get('torch', '-')} (scaled_dot_product_attention, fused AdamW), "
        f"transformers {found.get('transformers', '-')}. Every system clips gradients and makes "
        f"the same update. Largest square product: {peaks} GFLOP/s; the largest of all, "
        f"{found['peak_gflops']}, is the machine's peak. FLOPs: matmul_full. First step: with its "
        "compilation, nothing cached.",
        "",
        *(f"- {text}" for text in (*shapes, *missing)),
        "",
        *table(found["rows"], names),
    ]


def _parts(found: list[dict[str, Any]]) -> list[str]:
    lines = [
        "One core, from XLA's profile: least time of every operation in eight steps, summed by "
        "where it comes from. ms per step, and its share.",
        "",
    ]
    measured = [one for one in found if "ms" in one]
    names = dict.fromkeys(name for one in measured for name in one["ms"])
    rows = [
        {"part": name} | {one["setting"]: _share(one["ms"], name) for one in measured}
        for name in names
    ]
    columns = {"part": "part"} | {one["setting"]: one["setting"] for one in measured}
    return lines + table(rows, columns)


def _share(ms: dict[str, float], name: str) -> str:
    return f"{ms[name]:.2f} ({ms[name] / sum(ms.values()):.0%})" if name in ms else "-"


def _widths(found: list[dict[str, Any]]) -> list[str]:
    names = {name: name.replace("_", " ") for name in found[0]}
    return ["32 steps per dispatch; compile: with an empty cache.", "", *table(found, names)]


def _dispatch(found: dict[str, Any]) -> list[str]:
    names = {
        "steps_per_dispatch": "steps per dispatch",
        "ms_per_step": "ms / step",
        "share_outside_the_step": "share outside the step",
    }
    return [
        f"{found['n_params']:,} parameters, batch {found['batch_size']}, one core, fed and read as "
        f"the training loop does. A step inside a call takes {found['ms_inside']} ms; the rest is "
        "Python, dispatch and fresh memory.",
        "",
        *table(found["rows"], names),
        "",
        f"A run of 512 steps trained for {found['train_seconds']} s and waited for data for "
        f"{found['stall_seconds']} s of them.",
    ]


def _head(found: dict[str, Any]) -> list[str]:
    rows = [
        row | {"mib": round(row["temp_bytes"] / 2**20), "ratio": _ratio(row, found["rows"][0])}
        for row in found["rows"]
    ]
    names = {"n_loss_chunks": "parts", "mib": "temporaries, MiB", "ratio": "of one part"}
    return [
        f"V = {found['vocab_size']:,}, {found['positions']:,} positions: the float32 logits are "
        f"{found['logits_bytes'] / 2**20:.0f} MiB. Temporaries of a compiled training step, by "
        "the parts in which the loss head works; nothing is run.",
        "",
        *table(rows, names),
    ]


def _ratio(row: dict[str, Any], first: dict[str, Any]) -> str:
    return f"{row['temp_bytes'] / first['temp_bytes']:.2f}"


def _large(found: dict[str, Any]) -> list[str]:
    seconds = ", ".join(f"{kind} {s} s" for kind, s in found["seconds"].items())
    return [
        f"{found['n_params']:,} parameters, T 1024, on this CPU and for it: {seconds}. An "
        "indication only: the goal is for a GPU, which compiles other code."
    ]


def _starts(found: dict[str, Any]) -> list[str]:
    names = {
        "cache": "compilation cache",
        "data": "data described",
        "claim": "worker has the run",
        "first_steps": "first steps done",
        "training": "of these, training",
        "steps": "steps",
    }
    rows = [{"cache": kind} | found[kind] for kind in ("cold", "warm")]
    return [
        "Seconds from `isoflop run` of one small run, d 32: planning, data, a worker process and "
        "its imports, compilation of the step and of the evaluation. The first steps are those "
        f"of one dispatch. Imports alone take {found['import_seconds']} s.",
        "",
        *table(rows, names),
    ]


SECTIONS: dict[str, Callable[[Any], list[str]]] = {
    "versus": _versus,
    "parts": _parts,
    "widths": _widths,
    "dispatch": _dispatch,
    "head": _head,
    "large": _large,
    "starts": _starts,
}
TITLES = {
    "versus": "Against PyTorch",
    "parts": "Where a step of ours spends its time",
    "widths": "The quickstart's networks on one core",
    "dispatch": "What a dispatch costs",
    "head": "Memory of the loss head",
    "large": "Compiling a GPT-2 of 124M parameters",
    "starts": "From the command to the first steps",
}
