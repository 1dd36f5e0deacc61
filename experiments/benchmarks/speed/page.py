# SPDX-License-Identifier: Apache-2.0
"""results/benchmarks/speed.md from what make bench measured."""

from collections.abc import Callable
from typing import Any

from experiments.benchmarks.speed import layers, networks
from experiments.benchmarks.speed.packs import TOKENS_PER_PARAM
from experiments.files import markdown
from model.network.config import ModelConfig
from model.network.counts.attention import AttentionConfig

NOT_MEASURED = "Not measured: `python -m experiments.benchmarks.speed.run --gpu` is the command."
PEER_COLUMNS = {
    "network": "network",
    "system": "system",
    "n_params": "parameters",
    "batch_size": "batch",
    "ms_per_step": "ms / step",
    "ms_lowest": "lowest",
    "ms_highest": "highest",
    "tokens_per_second": "tokens / s",
    "mfu_full": "share of peak, matmul_full",
    "mfu_causal": "matmul_causal",
    "speedup": "isoflop is faster by",
    "first_step_seconds": "first step, s",
}
PACK_COLUMNS = {
    "d_model": "d",
    "n_params": "parameters",
    "n_steps": "steps of a run",
    "one_at_a_time": "runs / h, one at a time",
    "pack": "runs / h, packed",
    "pack_runs": "runs in the pack",
    "pack_gain": "gain of packing",
    "one_process_per_core": "runs / h, one process per core",
    "per_core_gain": "gain of one process per core",
}


def page(record: dict[str, Any]) -> str:
    """Sections for a CPU and for a GPU; a case that was not measured there is left out."""
    lines = ["# Training speed", ""]
    for device, name in (("cpu", "two CPU cores"), ("gpu", "a GPU")):
        lines += [f"## On {name}", ""]
        if device not in record:
            lines += [NOT_MEASURED, ""]
        for case, found in record.get(device, {}).items():
            title, section = SECTIONS[case]
            lines += [f"### {title}", "", _where(found), "", *section(found), ""]
    return "\n".join(lines)


def _where(found: dict[str, Any]) -> str:
    cores = f", {found['cores']} cores" if "cores" in found else ""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    commit = found["git_commit"][:7]
    return f"{found['device']}{cores}; Python {found['python']}, {versions}; commit {commit}."


def _peers(found: dict[str, Any]) -> list[str]:
    settings = [networks.SETTINGS[n] for n in dict.fromkeys(r["network"] for r in found["rows"])]
    shapes = [
        f"{s.name}: {s.model.n_layers} layers, d {s.model.d_model}, {_mixer(s.model)}, d_ff "
        f"{networks.layers(s.model)[1].d_ff}, T {s.model.seq_len}, V {s.model.vocab_size}, "
        f"{s.dtype}, {s.n_steps} steps per repeat and per dispatch of ours."
        for s in settings
    ]
    missing = [f"{what}: not measured, {why}." for what, why in found["not_measured"].items()]
    is_split = any(row.get("n_devices", 1) > 1 for row in found["rows"])
    split = " Each core is a device of ours, and they split the batch (mesh=1,2,1,1)." * is_split
    peaks = {f"{r['peak_gflops']} GFLOP/s ({r['peak_source']})" for r in found["rows"]}
    return [
        f"One process per system, {found['rounds']} rounds in turn; medians of the rounds. Same "
        "network, tokens, clipping and AdamW; torch has scaled_dot_product_attention and its fused "
        f"AdamW.{split} Peak: {'; '.join(sorted(peaks))}. First step: with its compilation, "
        "nothing cached.",
        "",
        *(f"- {text}" for text in (*shapes, *missing)),
        "",
        *table(found["rows"], PEER_COLUMNS),
    ]


def _mixer(model: ModelConfig) -> str:
    mixer, _ = networks.layers(model)
    if isinstance(mixer, AttentionConfig):
        return f"{mixer.n_heads} heads"
    return f"{mixer.kind} ({', '.join(f'{k} {v}' for k, v in mixer.columns().items())})"


def _packs(found: dict[str, Any]) -> list[str]:
    rows = [row for row in found["rows"] if "not_measured" not in row]
    missing = [row for row in found["rows"] if "not_measured" in row]
    has_cores = any(row["one_process_per_core"] for row in rows)
    names = {k: v for k, v in PACK_COLUMNS.items() if has_cores or "per_core" not in k}
    return [
        f"A run has {TOKENS_PER_PARAM} tokens per parameter; steps alone are counted. One at a "
        "time and packed: one process with all of the device.",
        "",
        *table(rows, names),
        *(f"- d {row['d_model']}: not measured, {row['not_measured']}" for row in missing),
    ]


def _layers(found: dict[str, Any]) -> list[str]:
    missing = [f"- {what}: not measured, {why}." for what, why in found["not_measured"].items()]
    return [
        f"One layer of width {layers.D_MODEL}, float32: gradients of its arrays and its input, of "
        f"{layers.N_TOKENS} tokens in windows of T. Ours compiled, {layers.N_PASSES} passes in a "
        "dispatch, as steps of training are; theirs eager; a process each, "
        f"{found['rounds']} rounds in turn; medians. On two cores, of which ours makes two "
        "devices that split the batch (mesh=1,2,1,1), and by how much isoflop is faster where each "
        "has one, as every run of a grid does.",
        "",
        *missing,
        *([""] if missing else []),
        *table(found["rows"], layers.COLUMNS),
    ]


def table(rows: list[dict[str, Any]], names: dict[str, str]) -> list[str]:
    """``names`` maps keys of the rows to the heads of their columns, in order."""
    cells = (["" if row[name] is None else row[name] for name in names] for row in rows)
    return markdown.table(tuple(names.values()), cells)


SECTIONS: dict[str, tuple[str, Callable[[dict[str, Any]], list[str]]]] = {
    "peers": ("Against PyTorch", _peers),
    "mixers": ("Against PyTorch's own LSTM and convolution", _peers),
    "packs": ("Runs that train together", _packs),
    "layers": ("Each sequence mixer alone", _layers),
}
