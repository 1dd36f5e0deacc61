# SPDX-License-Identifier: Apache-2.0
"""Studies of hidden tokens: one id more, nothing behind a causal mask, and what cannot be asked."""

import dataclasses

import pytest

from experiments.plan.jobs import program
from experiments.plan.plan import plan
from experiments.study.recipe import BlockRule
from experiments.study.study import Axis
from model.network.counts.lstm import LSTMRule
from model.network.counts.total import flops_per_token

LSTM = LSTMRule(state_ratio=1.0, state_multiple=8, use_gate_bias=True, forget_bias=1.0)
MASKED = {"objective": "masked", "mask_ratio": 0.15}
OBJECTIVES = Axis(field="recipe.objective", values=("next_token", "diffusion"))


def of(study, **changes):
    return dataclasses.replace(study, recipe=study.recipe.with_(**changes))


def test_the_network_has_a_mask_more_than_the_data_have_tokens(study, manifest):
    for point in plan(of(study, **MASKED), manifest).points:
        assert point.spec.model.vocab_size == manifest.vocab_size + 1
        assert (point.spec.train.objective, point.spec.train.mask_ratio) == ("masked", 0.15)


@pytest.mark.parametrize("convention", ["matmul_full", "matmul_causal"])
def test_no_pair_of_positions_is_left_out_of_its_flops(study, manifest, convention):
    asked = dataclasses.replace(of(study, objective="diffusion"), flops=convention)
    for point in plan(asked, manifest).points:
        full = flops_per_token(point.spec.model, "matmul_full") * point.n_tokens
        assert point.flops["matmul_full"] == point.flops["matmul_causal"] == full
        assert full == pytest.approx(point.budget, rel=0.01)


def test_an_objective_and_a_ratio_are_axes(study, manifest):
    both = plan(dataclasses.replace(study, axes=(OBJECTIVES,)), manifest).points
    assert {point.axes["recipe.objective"] for point in both} == {"next_token", "diffusion"}
    for point in both:
        assert point.spec.train.objective == point.axes["recipe.objective"]
    ratios = Axis(field="recipe.mask_ratio", values=(0.15, 0.4))
    points = plan(dataclasses.replace(of(study, **MASKED), axes=(ratios,)), manifest).points
    assert {point.spec.train.mask_ratio for point in points} == {0.15, 0.4}


def test_no_two_objectives_share_a_program(study, manifest):
    asked = (of(study, **MASKED), of(study, objective="diffusion"))
    first, other = ({program(point) for point in plan(one, manifest).points} for one in asked)
    assert first
    assert first.isdisjoint(other)


def test_what_cannot_be_asked_is_refused_in_a_line_before_anything_is_spent(study, manifest):
    blocks = (BlockRule(mixer=LSTM, channel_mixer=None),)
    recipes = (study.recipe, study.recipe.with_(name="hiding", **MASKED))
    refused = {
        r"objective='diffusion' asks for both sides of a position, and 'lstm' sees": of(
            study, objective="diffusion", shape__blocks=blocks
        ),
        r"losses of 2 units, nats per masked token and nats per token: they do": (
            dataclasses.replace(study, axes=(Axis(field="recipe", values=recipes),))
        ),
        r"objective='masked' hides separators, too": dataclasses.replace(
            of(study, **MASKED), documents_apart=True
        ),
    }
    for words, asked in refused.items():
        with pytest.raises(ValueError, match=words) as error:
            plan(asked, manifest)
        assert "\n" not in str(error.value)
