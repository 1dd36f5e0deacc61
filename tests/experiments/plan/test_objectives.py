# SPDX-License-Identifier: Apache-2.0
"""Studies of hidden tokens: one id more, nothing behind a causal mask, and what cannot be asked."""

import dataclasses
from dataclasses import replace

import pytest

from experiments.ledger.tables import table_row
from experiments.ledger.verdict import Verdict
from experiments.plan.jobs import program
from experiments.plan.plan import plan
from experiments.study.recipe import BlockRule, EncoderRule
from experiments.study.study import Axis
from model.data.source import MarkovMesh, Pairs
from model.data.synthetic.open_language import describe_language
from model.network.counts.cross_attention import CrossAttentionRule
from model.network.counts.lstm import LSTMRule
from model.network.counts.patches import PatchConfig
from model.network.counts.total import flops_per_token
from model.training.config import EvalConfig

CROSS = CrossAttentionRule(
    head_width=16, min_heads=1, max_heads=32, queries_per_kv_head=1, use_qk_norm=True
)
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


PAIRS = Pairs(task="lookup", n_words=16, language_seed=0)


@pytest.fixture
def translation(study):
    """A study of an encoder and a decoder on pairs of seven words."""
    (block,) = study.recipe.shape.blocks
    blocks = (replace(block, channel_mixer=None), replace(block, mixer=CROSS))
    encoder = EncoderRule(source_share=0.5, blocks=(block,))
    recipe = study.recipe.with_(
        objective="translation", shape__blocks=blocks, shape__encoder=encoder
    )
    evaluation = replace(study.evaluation, n_tokens=1600, curve_tokens=160)
    return replace(study, recipe=recipe, data=PAIRS, seq_len=16, evaluation=evaluation)


def test_an_encoder_reads_its_share_and_every_token_of_a_window_counts(translation):
    for point in plan(translation, describe_language(PAIRS)).points:
        model = point.spec.model
        assert (model.encoder.source_len, model.n_positions, model.vocab_size) == (8, 8, 18)
        assert model.encoder_net.n_layers == model.n_repeats == model.n_layers // 2
        assert point.flops["matmul_full"] == pytest.approx(point.budget, rel=0.01)
        assert point.n_tokens % (16 * point.spec.train.batch_size) == 0
        row = table_row(point, Verdict(state="waiting"))
        told = {name: row[name] for name in ("objective", "source_len", "blocks", "encoder_blocks")}
        assert told == {
            "objective": "translation",
            "source_len": 8,
            "blocks": "attention cross_attention+swiglu",
            "encoder_blocks": "attention+swiglu",
        }
        # Of the decoder's own attention alone a mask hides half.
        hidden = point.flops["matmul_full"] - point.flops["matmul_causal"]
        heads = model.blocks[0].mixer
        per_target = 3 * model.n_repeats * 2 * 8 * heads.n_heads * heads.d_head
        assert hidden == pytest.approx(point.n_tokens / 2 * per_target)


def test_what_no_source_can_be_is_refused_in_a_line(translation, study, manifest):
    pairs = describe_language(PAIRS)
    shape = translation.recipe.shape
    refused = {
        "sources of 9 words are too long": (replace(translation, seq_len=20), pairs),
        "source_share=0.25: of source 'pairs' half of each": (
            of(translation, shape__encoder=replace(shape.encoder, source_share=0.25)),
            pairs,
        ),
        "encoder.source_len=16: a window of 16 tokens has no target": (
            replace(
                of(translation, shape__encoder=replace(shape.encoder, source_share=0.99)),
                data=study.data,
            ),
            manifest,
        ),
        "objective='next_token' has no source": (of(translation, objective="next_token"), pairs),
        "objective='translation' needs an encoder": (
            replace(of(study, objective="translation"), seq_len=16),
            manifest,
        ),
        "separator=17 with an encoder": (replace(translation, documents_apart=True), pairs),
    }
    for words, (asked, data) in refused.items():
        with pytest.raises(ValueError, match=words) as error:
            plan(asked, data)
        assert "\n" not in str(error.value)


def test_classes_of_images_are_planned_and_what_cannot_be_is_refused(study):
    source = MarkovMesh(height=8, width=8, levels=4, epsilon=0.5, labelled=True)
    patches = PatchConfig(height=8, width=8, channels=1, levels=4, side=2, pool="token")
    asked = dataclasses.replace(
        of(study, objective="classification", shape__patches=patches, shape__tie_embeddings=False),
        data=source,
        seq_len=64,
        evaluation=EvalConfig(n_tokens=6400, curve_tokens=640, n_points=2, seed=0),
    )
    for point in plan(asked, describe_language(source)).points:
        model = point.spec.model
        assert (model.vocab_size, model.n_positions) == (4, 17)
        assert point.flops["matmul_full"] == pytest.approx(
            flops_per_token(model, "matmul_full") * point.n_tokens
        )
    blind = dataclasses.replace(source, labelled=False)
    for data, words in (
        (blind, "source 'mesh' has labelled=False, levels=4. Say labelled=True"),
        (dataclasses.replace(source, levels=8), "labelled=True, levels=8"),
        (dataclasses.replace(source, width=4), "has images of 32 values"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            plan(dataclasses.replace(asked, data=data), describe_language(data))
        assert "\n" not in str(error.value)
