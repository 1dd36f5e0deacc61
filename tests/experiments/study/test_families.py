# SPDX-License-Identifier: Apache-2.0
"""The recipes of families, and the studies that set them side by side."""

import pytest

from experiments.plan.plan import plan
from experiments.recipes.dense import DENSE_MUON
from experiments.recipes.families import FAMILIES
from experiments.studies import architectures, architectures_all, architectures_zipf
from experiments.study.study import Study


def test_a_family_is_the_same_recipe_but_for_its_blocks_and_its_rate():
    for name, recipe in FAMILIES.items():
        assert recipe.name == name
        same = recipe.with_(
            name=DENSE_MUON.name,
            shape__blocks=DENSE_MUON.shape.blocks,
            optimizer__learning_rate=1.0,
        )
        assert same == DENSE_MUON
    patterns = [recipe.shape.blocks for recipe in FAMILIES.values()]
    assert all(patterns.count(pattern) == 1 for pattern in patterns)


STUDIES = [architectures.STUDY, architectures_all.STUDY, architectures_zipf.STUDY]


@pytest.mark.parametrize("study", STUDIES, ids=lambda s: s.name)
def test_every_family_has_four_sizes_and_every_seed_at_every_budget(study: Study, make_manifest):
    sizes: dict[tuple[str, float], set[tuple[int, int]]] = {}
    # As many bytes as the PEPs have.
    manifest = make_manifest(n_train_tokens=13_000_000, n_validation_tokens=700_000)
    for point in plan(study, manifest).points:
        key = (str(point.axes["recipe"]), point.budget)
        sizes.setdefault(key, set()).add((point.spec.model.d_model, point.spec.train.init_seed))
    names = [recipe.name for recipe in study.axes[0].values]
    assert sizes.keys() == {(name, budget) for name in names for budget in study.budgets}
    for found in sizes.values():
        widths = {width for width, _ in found}
        assert found == {(width, seed) for width in widths for seed in study.seeds_per_budget[0]}
        assert len(widths) >= 4
    assert study.budgets[-1] >= 30 * study.budgets[0]
    assert names[0] == "transformer"
