# SPDX-License-Identifier: Apache-2.0
"""Wrong inputs by the thousand, from a seed, each with the word that its refusal must hold."""

import copy
import dataclasses
import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

WHOLE, SIZE, SEED, RATE, POSITIVE, SHARE, FRACTION = range(7)
FLAG, NAME, ID, TABLE, RECORD, LABEL = range(7, 13)
# What each field of a point may be, written down from the docstrings and not from the code.
KINDS = {
    "id": ID, "spec": RECORD, "role": NAME, "budget": POSITIVE, "convention": NAME, "seed": SEED,
    "axes": TABLE, "n_tokens": SIZE, "epochs": POSITIVE, "params": RECORD, "flops": TABLE,
    "cluster_id": ID, "objective": NAME, "smallest_batch": SIZE,
    "total": SIZE, "non_embedding": SIZE, "active": SIZE,
    "6n_total": POSITIVE, "6n_non_embedding": POSITIVE, "matmul_full": POSITIVE,
    "matmul_causal": POSITIVE, "recipe.optimizer.learning_rate": LABEL,
    "model": RECORD, "train": RECORD, "data_fingerprint": NAME, "semantics": SIZE,
    "vocab_size": SIZE, "seq_len": SIZE, "d_model": SIZE, "n_layers": SIZE, "n_heads": SIZE,
    "n_kv_heads": SIZE, "d_head": SIZE, "d_ff": SIZE, "blocks": TABLE, "mixer": RECORD,
    "channel_mixer": RECORD, "kind": NAME, "learned_positions": FLAG, "branch_init_gain": RATE,
    "norm": NAME, "norm_eps": RATE, "rope_theta": POSITIVE, "use_bias": FLAG,
    "use_qk_norm": FLAG, "tie_embeddings": FLAG, "embedding_init_std": RATE,
    "hidden_init_gain": POSITIVE, "output_init_std": RATE, "residual_multiplier": POSITIVE,
    "logit_multiplier": POSITIVE, "batch_size": SIZE, "optimizer": RECORD, "schedule": RECORD,
    "evaluation": RECORD, "z_loss_weight": RATE, "compute_dtype": NAME, "init_seed": SEED,
    "data_seed": SEED, "input": RECORD, "hidden": RECORD, "output": RECORD, "vector": RECORD,
    "final_norm": RECORD,
    "beta1": SHARE, "beta2": SHARE, "clip_norm": POSITIVE, "learning_rate": RATE,
    "weight_decay": RATE, "eps": RATE, "n_steps": SIZE, "warmup_steps": WHOLE,
    "decay_steps": WHOLE, "decay": NAME, "final_fraction": FRACTION, "curve_tokens": SIZE,
    "n_points": SIZE, "algorithm": NAME, "muon": RECORD, "momentum": SHARE, "nesterov": FLAG,
    "ns_steps": SIZE, "scale": NAME, "weight_decay_holds": WHOLE, "weight_decay_fall": RATE,
    "n_bytes": SIZE, "curve_bytes": SIZE, "separator": WHOLE,
    "mask_ratio": FRACTION, "encoder": RECORD, "patches": RECORD,
}  # fmt: skip
# What is no part of an id, and may be missing.
DEFAULTS = {
    **{"objective": "next_token", "weight_decay_holds": 0, "weight_decay_fall": 0.0},
    **dict.fromkeys(("n_bytes", "curve_bytes", "separator", "mask_ratio", "encoder", "patches")),
}

_NUMBERS = (float("nan"), float("inf"), float("-inf"), -1.0, -1e-9, 1e300, 10**400)
_NO_NUMBER = ("", "1", "NaN", "x" * 3000, True, False, None, [], {}, [1], {"a": 1}, [[[]]])
_NO_TEXT = (0, 1.5, True, None, [], {}, ["rope"], float("nan"), -(2**70))
WRONG: dict[int, tuple[Any, ...]] = {
    SIZE: (0, -1, -(2**63), 2**64, 10**30, 1.5, *_NUMBERS, *_NO_NUMBER),
    WHOLE: (-1, -(2**63), 2**64, 10**30, 1.5, *_NUMBERS, *_NO_NUMBER),
    SEED: (-1, 2**32, 2**63, 2**64, 10**30, 0.5, *_NUMBERS, *_NO_NUMBER),
    RATE: (*_NUMBERS, *_NO_NUMBER),
    POSITIVE: (0, 0.0, -0.0, *_NUMBERS, *_NO_NUMBER),
    LABEL: (float("nan"), float("inf"), float("-inf"), 1e300, 10**400, "", None, [], {}, [1]),
    SHARE: (1, 1.0, 1.5, *_NUMBERS, *_NO_NUMBER),
    FRACTION: (1.01, 2, *_NUMBERS, *_NO_NUMBER),
    FLAG: (0, 1, "true", "", None, [], {}, 0.0, float("nan")),
    NAME: ("", "nothing", "rope\n", "../x", "<b>", "\x00", "a" * 5000, "\ud800", *_NO_TEXT),
    ID: ("", "..", "a/b", "A", "a" * 65, "ü", "a\n", "\x00", "\ud800", *_NO_TEXT),
    RECORD: ([], None, 0, "", "{}", True, [{}], 1.5, {}),
    TABLE: ([], None, 0, "", "{}", True, [{}], {"nothing": "x"}, {"matmul_full": None}),
}
# Null is how an unlimited source says that it has no epochs, and AdamW that it has nothing of Muon;
# no axes is a study without any, and a word may be one's value; a block may have no channel mixer,
# attention no rotation; losses are not of documents, documents are not kept apart, next tokens
# hide none, and most networks have no encoder and no patches.
LEGAL = (
    *(("epochs", None), ("axes", {}), ("axes", {"nothing": "x"}), ("muon", None)),
    *(("channel_mixer", None), ("rope_theta", None)),
    *(("n_bytes", None), ("curve_bytes", None), ("separator", None), ("mask_ratio", None)),
    *(("encoder", None), ("patches", None)),
)


def paths(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every field of a tree."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield (*path, key)
        yield from paths(value, (*path, key))
    for place, value in enumerate(node) if isinstance(node, list) else ():
        yield from paths(value, (*path, place))


def parent(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree


def rehashed(tree: Any) -> Any:
    """The tree with the id that its spec has now, where it has one: the check must not hide all."""
    try:
        spec = copy.deepcopy(tree["spec"])
        for path in [p for p in paths(spec) if p[-1] in DEFAULTS]:
            if (node := parent(spec, path))[path[-1]] == DEFAULTS[path[-1]]:
                del node[path[-1]]
        text = json.dumps(_rounded(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    except (ValueError, KeyError, TypeError, OverflowError, AttributeError):
        return tree
    return tree | {"id": digest} if isinstance(tree.get("id"), str) else tree


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


Wrong = tuple[str | bytes, tuple[str, ...]]


def wrong_value(rng: random.Random, tree: Any) -> Wrong:
    path = rng.choice(list(paths(tree)))
    tree = _with_wrong_value(rng, tree, path)
    return _text(tree if path == ("id",) else rehashed(tree)), _words(path)


def wrong_values(rng: random.Random, tree: Any) -> Wrong:
    """Several fields at once; the refusal names one of them."""
    chosen = rng.sample([p for p in paths(tree) if KINDS[p[-1]] not in (RECORD, TABLE)], 4)
    for path in chosen:
        tree = _with_wrong_value(rng, tree, path)
    text = _text(tree if ("id",) in chosen else rehashed(tree))
    return text, tuple(word for path in chosen for word in _words(path))


def _with_wrong_value(rng: random.Random, tree: Any, path: tuple[str, ...]) -> Any:
    tree, name = copy.deepcopy(tree), path[-1]
    legal = [value for field, value in LEGAL if field == name]
    parent(tree, path)[name] = rng.choice([w for w in WRONG[KINDS[name]] if w not in legal])
    return tree


def _words(path: tuple[str, ...]) -> tuple[str, ...]:
    """What names a field: its own name, or that of the table it is an entry of."""
    return (path[-1], path[0]) if path[0] in ("flops", "axes") else path[-1:]


def _text(tree: Any) -> str:
    return json.dumps(tree)


def missing_field(rng: random.Random, tree: Any) -> Wrong:
    tree = copy.deepcopy(tree)
    # Of the axes each may be missing: it is another study's point then.
    required = [p for p in paths(tree) if p[-1] not in DEFAULTS]
    path = rng.choice([p for p in required if p[0] != "axes" or len(p) == 1])
    del parent(tree, path)[path[-1]]
    return _text(rehashed(tree)), _words(path)


def extra_field(rng: random.Random, tree: Any) -> Wrong:
    tree = copy.deepcopy(tree)
    records = [(), *(p for p in paths(tree) if isinstance(parent(tree, p)[p[-1]], dict))]
    records = [p for p in records if p == () or KINDS[p[-1]] == RECORD]
    name = rng.choice(["extra", "n_head", "__class__", "__init__", "", "\u00e9", "constructor"])
    parent(tree, (*rng.choice(records), name))[name] = rng.choice([1, None, "x", [], {"a": {}}])
    return _text(tree), (ascii(name),)


def field_twice(rng: random.Random, tree: Any) -> Wrong:
    path = rng.choice(list(paths(tree)))
    key, text = json.dumps(path[-1]), _text(tree)
    at = text.index(f"{key}: ")
    value = json.dumps(rng.choice([1, None, "grid", parent(tree, path)[path[-1]]]))
    return f"{text[:at]}{key}: {value}, {text[at:]}", (path[-1],)


def damaged_text(rng: random.Random, tree: Any) -> Wrong:
    """Text that is no JSON, or more or less than a point: there is no field to name."""
    text = _text(tree)
    cut = rng.randrange(len(text))
    deep = rng.choice(["[", '{"a":']) * 5000
    return rng.choice(
        (
            text[:cut],
            f"{text[:cut]}\x00{text[cut:]}",
            text + rng.choice(["{}", ",", "]", "x", " null", text]),
            text.encode()[:cut] + b"\xff" + text.encode()[cut:],
            text.encode("utf-16"),
            f"[{text}]",
            deep,
            f'{text[:-1]}, "x": {deep}',
            rng.choice(["", " ", "null", "[]", "0", "NaN", '"x"', "{}", "true", "1e999", "-"]),
            "".join(chr(rng.randrange(1, 0x2FFF)) for _ in range(rng.randrange(40))),
        )
    ), ("",)


MUTATIONS = (
    *(wrong_value, wrong_value, wrong_value, wrong_values),
    *(missing_field, extra_field, field_twice, damaged_text),
)


def wrong_specs(n: int, trees: list[Any], seed: int) -> Iterator[Wrong]:
    """``n`` texts that are no point, each with words of which its refusal must hold one."""
    rng = random.Random(seed)
    for _ in range(n):
        yield rng.choice(MUTATIONS)(rng, rng.choice(trees))


_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789-"
_FORBIDDEN = "/\\.\x00\n\r\t _:*?\"'<>|ABCäß\u202e\u2028\ud800٣"
_PATHS = (
    "..",
    ".",
    "../x",
    "/etc/passwd",
    "a/../../b",
    "~",
    "a/",
    "/",
    "",
    "-\n",
    "con.",
    "a" * 65,
)


def ids(n: int, seed: int) -> Iterator[str]:
    """Ids of every sort, most of them illegal."""
    rng = random.Random(seed)
    for _ in range(n):
        name = "".join(rng.choice(_CHARACTERS) for _ in range(rng.randrange(70)))
        if rng.random() < 0.7:
            at = rng.randrange(len(name) + 1)
            name = name[:at] + rng.choice((*_FORBIDDEN, *_PATHS)) + name[at:]
        yield rng.choice(_PATHS) if rng.random() < 0.1 else name


def is_legal_id(name: str) -> bool:
    return 1 <= len(name) <= 64 and all(c in _CHARACTERS for c in name)


_VALUES = (
    *(
        "",
        " ",
        "0",
        "-1",
        "1",
        "2",
        "8",
        "1e400",
        "-0",
        "NaN",
        "Infinity",
        "1e-320",
        "1e300",
        "0.5",
    ),
    *("1e11", "4e11", "1e30", "1e31", "99999999999999999999", "1,2", "2,1", "1,1", "[]", "[1]"),
    *("[[1]]", "{}", "null", "true", "false", "x", "linear", "gelu", "attention", '"x"', "rope"),
    *("1,x", ",", "[1", "{", '{"a": 1, "a": 2}', "../x", "a/b", "..", "a" * 101, "<b>", "\n"),
    *("\x00", "\udcff", "\u2028", "9" * 5000, "[" * 3000, "1e11,NaN", "16,32,64", "0.1,1e4"),
    *('[{"field": "x", "values": [1]}]', '[{"field": "shape.blocks", "values": [1]}]'),
    *(
        '[{"field": "recipe.optimizer.learning_rate", "values": [0.5, 1]}]',
        '[{"field": "", "values": []}]',
    ),
    *(
        '[{"field": "name", "values": [1]}]',
        '[{"field": "shape.width_multiple", "values": [1e300]}]',
    ),
)


def overrides(n: int, study: Any, seed: int) -> Iterator[list[str]]:
    """Assignments to fields of a study, to what are none, and what are no assignments."""
    rng = random.Random(seed)
    fields = [*_fields(study), "nothing", "", ".", "name.x", "recipe", "recipe.", "__class__", "=x"]
    for _ in range(n):
        chosen = [rng.choice(fields) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        yield [f"{name}{'=' * (rng.random() < 0.98)}{rng.choice(_VALUES)}" for name in chosen]


def _fields(node: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name
