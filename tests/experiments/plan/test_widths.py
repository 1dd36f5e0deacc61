# SPDX-License-Identifier: Apache-2.0
import dataclasses
import math

import pytest

from experiments.plan.plan import plan
from experiments.study.study import Ladder, LogSpaced


def test_a_ladder_keeps_the_sizes_within_its_tokens_per_parameter(study, manifest):
    everything = dataclasses.replace(
        study, sizes=Ladder(d_models=(16, 32, 64), tokens_per_param=(1e-3, 1e5))
    )
    ratio = {
        (p.budget, p.spec.model.d_model): p.budget
        / (p.flops["matmul_full"] / p.n_tokens)
        / p.params.total
        for p in plan(everything, manifest).points
    }
    low, high = 10.0, 100.0
    some = dataclasses.replace(
        study, sizes=Ladder(d_models=(16, 32, 64), tokens_per_param=(low, high))
    )
    planned = {(p.budget, p.spec.model.d_model) for p in plan(some, manifest).points}
    assert planned == {key for key, r in ratio.items() if low <= r <= high}
    assert 0 < len(planned) < len(ratio)


def test_log_spaced_sizes_are_the_nearest_widths_to_equal_steps_of_the_range(study, manifest):
    def ratios(points):
        """Asked tokens per parameter by budget and width."""
        return {
            (p.budget, p.spec.model.d_model): p.budget
            / (p.flops["matmul_full"] / p.n_tokens)
            / p.params.total
            for p in points
        }

    every = Ladder(d_models=tuple(range(8, 168, 8)), tokens_per_param=(1e-3, 1e5))
    ratio = ratios(plan(dataclasses.replace(study, sizes=every), manifest).points)
    spaced = dataclasses.replace(study, sizes=LogSpaced(n_sizes=4, tokens_per_param=(2.0, 200.0)))
    chosen = plan(spaced, manifest).points
    for budget in study.budgets:
        here = {d: math.log(r) for (b, d), r in ratio.items() if b == budget}
        nearest = {
            min(here, key=lambda d, target=target: abs(here[d] - target))
            for target in [math.log(2.0) + i * math.log(100.0) / 3 for i in range(4)]
        }
        assert {p.spec.model.d_model for p in chosen if p.budget == budget} == nearest
        assert len(nearest) == 4
    narrow = LogSpaced(n_sizes=9, tokens_per_param=(20.0, 25.0))
    with pytest.raises(ValueError, match="fall on only"):
        plan(dataclasses.replace(study, sizes=narrow), manifest)


def test_a_ladder_without_a_size_in_range_is_refused(study, manifest):
    ways_out = {
        (1e-3, 2e-3): "all have more: ask for a smaller budget, add larger sizes, or widen",
        (1e9, 2e9): "all have fewer: ask for a larger budget, add smaller sizes, or widen",
    }
    for asked, way_out in ways_out.items():
        far = Ladder(d_models=(16,), tokens_per_param=asked)
        with pytest.raises(ValueError, match="no size of the ladder has") as no:
            plan(dataclasses.replace(study, sizes=far), manifest)
        assert way_out in str(no.value)
