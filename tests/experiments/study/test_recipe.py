# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.plan.from_recipe import model_config
from experiments.plan.plan import plan
from experiments.recipes.dense import DENSE, DENSE_MUON
from experiments.recipes.llama_like import LLAMA_LIKE
from experiments.recipes.tiny_bytes import TINY_BYTES, TINY_BYTES_MUON
from experiments.study.overrides import override
from model.network.recorded_activations import activations
from model.network.sharding import make_mesh
from model.network.transformer import Transformer
from model.training.config import MuonConfig

pytestmark = pytest.mark.usefixtures("quick_to_compile")


def with_optimizer(study, **changes):
    named = {f"optimizer__{name}": value for name, value in changes.items()}
    return dataclasses.replace(study, recipe=study.recipe.with_(**named))


def test_muon_without_constants_is_refused_in_one_line(study):
    with pytest.raises(ValueError, match=r"^algorithm='muon' needs its constants.*$"):
        with_optimizer(study, algorithm="muon")


def test_a_wrong_choice_in_a_recipe_is_refused_in_one_line(study):
    for field, value in (
        ("recipe.parameterization", "mup"),
        ("recipe.optimizer.algorithm", "sgd"),
        ("recipe.optimizer.decay", "step"),
        ("recipe.optimizer.final_fraction", "1.5"),
    ):
        with pytest.raises(ValueError, match=f"^[^\n]*{field.rsplit('.')[-1]}={value}") as error:
            override(study, [f"{field}={value}"])
        assert "\n" not in str(error.value)


def test_llama_like_begins_with_even_odds_far_below_its_base():
    """Its loss is ln V before the first step, as no head of random numbers gives it there."""
    config = model_config(LLAMA_LIKE, 64, vocab_size=300, seq_len=8)
    tokens = jnp.arange(16, dtype=jnp.int32).reshape(2, 8)
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        build = lambda: Transformer(config, compute_dtype="float32", rngs=nnx.Rngs(0))  # noqa: E731
        logits = jax.jit(lambda tokens: build()(tokens)[0])(tokens)
    np.testing.assert_array_equal(logits, 0)


@pytest.mark.parametrize(
    "width", [16, pytest.param(256, marks=pytest.mark.slow(reason="8 layers to compile, as 2"))]
)
@pytest.mark.parametrize(
    "recipe",
    [pytest.param(DENSE, marks=pytest.mark.slow(reason="begins as dense-muon")), DENSE_MUON],
    ids=lambda recipe: recipe.name,
)
def test_blocks_of_a_dense_network_begin_as_the_identity_and_its_head_knows_nothing(recipe, width):
    config = model_config(recipe, width, vocab_size=300, seq_len=8)
    tokens = jnp.arange(16, dtype=jnp.int32).reshape(2, 8)
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        build = lambda: Transformer(config, compute_dtype="float32", rngs=nnx.Rngs(0))  # noqa: E731
        found = jax.jit(lambda tokens: activations(build(), tokens))(tokens)
    np.testing.assert_array_equal(found["logits"], 0)
    np.testing.assert_array_equal(found["residual"], found["embedding"])
    assert float(jnp.std(found["embedding"])) == pytest.approx(0.5, rel=0.1)


def test_the_recipe_with_muon_differs_from_tiny_bytes_in_its_hidden_group_only(study, manifest):
    tiny, muon = (
        plan(dataclasses.replace(study, recipe=recipe), manifest).points
        for recipe in (TINY_BYTES, TINY_BYTES_MUON)
    )
    assert len(muon) == len(tiny)
    for one, other in zip(tiny, muon, strict=True):
        optimizer = one.spec.train.optimizer
        hidden = other.spec.train.optimizer.hidden
        assert hidden.learning_rate == 0.04
        same = dataclasses.replace(
            optimizer, algorithm="muon", muon=TINY_BYTES_MUON.optimizer.muon, hidden=hidden
        )
        assert other.spec.train == dataclasses.replace(one.spec.train, optimizer=same)
        assert other.spec.model == one.spec.model


def test_a_derived_recipe_is_the_one_that_nested_replacements_make():
    muon = MuonConfig(momentum=0.9, nesterov=True, ns_steps=5, scale="spectral")
    # Muon is refused without its constants, and these without Muon would be: checked together.
    derived = TINY_BYTES.with_(
        name="mine",
        optimizer__algorithm="muon",
        optimizer__muon=muon,
        shape__blocks__0__mixer__head_width=32,
        horizon_tokens_per_param=20.0,
    )
    replace, (block,) = dataclasses.replace, TINY_BYTES.shape.blocks
    block = replace(block, mixer=replace(block.mixer, head_width=32))
    assert derived == replace(
        TINY_BYTES,
        name="mine",
        optimizer=replace(TINY_BYTES.optimizer, algorithm="muon", muon=muon),
        shape=replace(TINY_BYTES.shape, blocks=(block,)),
        horizon_tokens_per_param=20.0,
    )
    assert derived.with_(optimizer__muon__momentum=0.8).optimizer.muon.momentum == 0.8
    assert TINY_BYTES.with_() == TINY_BYTES


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"speed": 1}, r"speed: Recipe has no field 'speed'; it has name, shape, base, .*"),
        ({"optimizer__speed": 1}, r"optimizer\.speed: OptimizerRule .*learning_rate.*"),
        ({"optimizer": 1}, r"optimizer: set one of its fields, for instance .*algorithm\."),
        ({"name__first": "a"}, r"name has no fields; it is 'tiny-bytes'\."),
        ({"optimizer__muon__momentum": 0.9}, r"optimizer\.muon has no fields; it is None\."),
        ({"optimizer": TINY_BYTES.optimizer, "optimizer__beta1": 0.8}, r".*set to .* already\."),
        ({"optimizer__learning_rate": -1.0}, r"learning_rate=-1\.0: must be a number from .*"),
        (
            {"optimizer__weight_decay_falls": True, "optimizer__weight_decay_exponent": 0.0},
            r"weight_decay_falls=True with weight_decay_exponent=0\.0: .* from -1 to below 0, .*",
        ),
    ],
)
def test_a_derived_recipe_with_a_wrong_field_is_refused_in_one_line(changes, words):
    with pytest.raises(ValueError, match=f"^{words}$"):
        TINY_BYTES.with_(**changes)
