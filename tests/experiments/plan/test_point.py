# SPDX-License-Identifier: Apache-2.0
import copy
import dataclasses
import hashlib
import json
import re

import msgspec
import pytest

from experiments.plan.point import Point, Spec, point_from_json, spec_id, to_json


def leaves(node, path=()):
    """Every (path, value) of a tree of dictionaries and lists."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from leaves(value, (*path, i))
    else:
        yield path, node


def another(value):
    """A legal neighbour of a leaf."""
    choices = {
        "rmsnorm": "layernorm",
        "rope": "learned",
        "linear": "cosine",
        "float32": "bfloat16",
        "attention": "attention2",
        "swiglu": "gelu",
    }
    if value is None or isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return choices.get(value, "f" + value[1:] if value[0] != "f" else "e" + value[1:])
    return value + 1 if isinstance(value, int) else value * 1.001 + 1e-6


def with_leaf(tree, path, value):
    tree = copy.deepcopy(tree)
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return tree


def test_the_id_changes_with_every_leaf_of_the_spec(points):
    spec = points[0].spec
    tree = json.loads(to_json(spec))
    paths = list(leaves(tree))
    assert len(paths) > 40
    ids = {spec_id(spec)}
    for path, value in paths:
        # Unchecked on purpose: some neighbours (5 heads) are no legal network.
        ids.add(unchecked_id(with_leaf(tree, path, another(value))))
    assert len(ids) == len(paths) + 1


def unchecked_id(tree) -> str:
    """spec_id of a tree that has the fields of a Spec but need not be a legal one."""
    made = dataclasses.make_dataclass("Tree", [f.name for f in dataclasses.fields(Spec)])
    return spec_id(made(**tree))


def test_the_id_depends_on_nothing_but_the_spec(points):
    point = points[0]
    tree = json.loads(to_json(point))
    for name in tree.keys() - {"spec", "id"}:
        value = tree[name]
        for path, leaf in leaves(value, (name,)):
            if name in ("convention", "role"):
                continue
            moved = with_leaf(tree, path, another(leaf))
            assert point_from_json(json.dumps(moved)).id == point.id
    assert point_from_json(json.dumps(tree | {"role": "forecast"})).id == point.id


def without_defaults(spec):
    """The tree of a spec without what has its default, which is no part of an id."""
    tree = json.loads(to_json(spec))
    del tree["train"]["objective"], tree["train"]["mask_ratio"]
    del tree["model"]["encoder"], tree["model"]["patches"]
    for name in ("weight_decay_holds", "weight_decay_fall"):
        del tree["train"]["optimizer"][name]
    for name in ("n_bytes", "curve_bytes"):
        del tree["train"]["evaluation"][name]
    del tree["model"]["separator"]
    return tree


def test_a_field_with_its_default_is_no_part_of_an_id(points):
    """So that one which is added later changes no id of before."""
    spec, train = points[0].spec, points[0].spec.train
    told = without_defaults(spec)
    assert msgspec.convert(told, type(spec)) == spec
    rounded = json.loads(json.dumps(told), parse_float=lambda text: float(f"{float(text):.8g}"))
    text = json.dumps(rounded, sort_keys=True, separators=(",", ":"))
    assert spec_id(spec) == points[0].id == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert spec_id(dataclasses.replace(spec, train=dataclasses.replace(train, data_seed=9))) != text


def test_the_order_of_fields_and_the_ninth_digit_do_not_matter(points):
    spec, tree = points[0].spec, without_defaults(points[0].spec)
    backwards = tree | {"model": dict(reversed(tree["model"].items()))}
    assert unchecked_id(backwards) == spec_id(spec)
    rate = spec.train.optimizer.hidden.learning_rate
    path = ("train", "optimizer", "hidden", "learning_rate")
    assert unchecked_id(with_leaf(tree, path, rate * (1 + 1e-12))) == spec_id(spec)
    assert unchecked_id(with_leaf(tree, path, rate * (1 + 1e-6))) != spec_id(spec)


def test_ids_are_sixteen_hexadecimal_digits(points):
    for point in points:
        assert re.fullmatch("[0-9a-f]{16}", point.id)


def test_a_point_survives_json(points):
    for point in points:
        again = point_from_json(to_json(point))
        assert again == point
        assert to_json(again) == to_json(point)


def test_a_changed_file_is_noticed(points):
    text = to_json(points[0])
    tree = json.loads(text)
    changed = with_leaf(tree, ("spec", "train", "batch_size"), 3)
    for bad in (
        json.dumps(changed),
        text[: len(text) // 2],
        "",
        "[]",
        "null",
        text.replace('"spec"', '"spec_"'),
        text.replace('"d_model":', '"d_model":"x'),
    ):
        with pytest.raises(ValueError, match=r"not a point|was changed"):
            point_from_json(bad)


def test_a_point_has_the_fields_the_table_needs(points):
    assert all(isinstance(point, Point) for point in points)
    assert {p.cluster_id for p in points} == {p.id for p in points}
