# SPDX-License-Identifier: Apache-2.0
"""Trained to look words up, a decoder looks at the word that it says next."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.plan.point import Spec
from experiments.plan.resolve import resolve_tokens
from experiments.recipes.dense import DENSE_MUON
from experiments.studies.translation import ATTENDING, STUDY
from experiments.study.recipe import EncoderRule, Recipe
from experiments.study.study import Ladder
from model.data.corpus import open_corpus
from model.data.source import Pairs
from model.data.synthetic.open_language import describe_language, open_language
from model.network.alignment import alignment
from model.network.counts.cross_attention import CrossAttentionRule
from model.network.sharding import make_mesh
from model.network.transformer import Transformer
from model.training.compile_program import compile_program
from model.training.optimizers.optimizer import hyper_arrays
from model.training.step import LOSS

SEQ_LEN, BATCH = 18, 32
CROSS = CrossAttentionRule(
    head_width=16, min_heads=1, max_heads=1, queries_per_kv_head=1, use_qk_norm=True
)
(BLOCK,) = DENSE_MUON.shape.blocks
TRANSFORMER = DENSE_MUON.with_(
    name="transformer",
    objective="translation",
    shape__learned_positions=True,
    shape__blocks=(replace(BLOCK, channel_mixer=None), replace(BLOCK, mixer=CROSS)),
    shape__encoder=EncoderRule(source_share=0.5, blocks=(BLOCK,)),
)
# Width and steps; then of each task the least share of the target where the argmax is right, and
# where it is within one place.
SIZES = {"attention": (32, 1504), "transformer": (16, 1024)}
LEAST = {"lookup": (0.99, 0.99), "translation": (0.0, 0.99)}


def spec_of(recipe: Recipe, source: Pairs, width: int, n_steps: int) -> Spec:
    recipe = recipe.with_(
        batch__reference_tokens=float(BATCH * SEQ_LEN), batch__exponent=0.0, batch__multiple=BATCH
    )
    ladder = Ladder(d_models=(width,), tokens_per_param=(1.0, 1000.0))
    study = replace(STUDY, recipe=recipe, data=source, seq_len=SEQ_LEN, sizes=ladder, axes=())
    n_tokens = n_steps * BATCH * SEQ_LEN
    manifest = describe_language(source)
    return resolve_tokens(study, manifest, n_tokens=n_tokens, d_model=width, seed=0, axes={}).spec


@pytest.mark.slow(reason="a minute of training each")
@pytest.mark.parametrize("recipe", [ATTENDING, TRANSFORMER], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("task", LEAST)
def test_the_argmax_of_attention_is_the_word_that_is_said_next(recipe, task, record_property):
    (width, n_steps), (least, least_near) = SIZES[recipe.name], LEAST[task]
    source = Pairs(task=task, n_words=32, language_seed=0)
    spec, corpus = (
        spec_of(recipe, source, width, n_steps),
        open_corpus(describe_language(source), ""),
    )
    program = compile_program(spec.model, spec.train, (1, 1, 1, 1))
    hyper, n_chunk = hyper_arrays(spec.train), program.n_chunk_steps
    rows = corpus.train_windows(0, n_steps * BATCH, seq_len=SEQ_LEN, seed=0)
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        state = program.init(jax.random.key(0), hyper)
        for chunk in rows.reshape(-1, n_chunk, BATCH, SEQ_LEN + 1):
            state, told = program.train_chunk(
                state, hyper, program.put(chunk), jnp.int32(0), jnp.int32(n_chunk)
            )
        build = lambda: Transformer(spec.model, compute_dtype=jnp.float32, rngs=nnx.Rngs(0))  # noqa: E731
        graphdef, _ = nnx.split(nnx.eval_shape(build))
        windows = corpus.validation_windows(400 * SEQ_LEN, SEQ_LEN, 0)
        look = jax.jit(lambda params, tokens: alignment(nnx.merge(graphdef, params), tokens))
        weights = np.asarray(look(state.params, windows[:, :-1]))
    assert float(told[LOSS][-1]) < 0.02
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1.0, rtol=1e-5)
    # Word j of the source is token j + 1 of the window; the last prediction is of the separator.
    off = np.argmax(weights, axis=-1)[:, :-1] - 1 - open_language(source).alignment(windows)
    record_property("right", float(np.mean(off == 0)))
    record_property("within_one", float(np.mean(np.abs(off) <= 1)))
    assert np.mean(off == 0) >= least
    assert np.mean(np.abs(off) <= 1) >= least_near
