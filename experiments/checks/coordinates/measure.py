# SPDX-License-Identifier: Apache-2.0
"""How large a network's activations are, and how far a few steps move them. Needs JAX."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from experiments.checks.coordinates.cases import Means
from experiments.plan.point import Spec
from model.data.batches import batches
from model.data.corpus import Corpus
from model.network.config import ModelConfig
from model.network.execution import PLAIN, Execution
from model.network.recorded_activations import activations
from model.network.transformer import Transformer
from model.training.compile_program import compile_program
from model.training.optimizers.optimizer import hyper_arrays

ONE_DEVICE = (1, 1, 1, 1)
# Scanned layers compile once, whatever the depth, and there are few steps.
TRAIN = Execution(layers="scanned")
LOOK = dataclasses.replace(PLAIN, layers="scanned")


def measure(spec: Spec, corpus: Corpus, n_sequences: int) -> dict[str, Means]:
    """Means of every recorded activation before and after the run of a spec.

    Args:
      n_sequences: of the validation split, on which the activations are taken.
    """
    model, train = spec.model, spec.train
    n_tokens = n_sequences * model.seq_len
    tokens = corpus.validation_windows(n_tokens, model.seq_len, train.evaluation.seed)[:, :-1]
    n_steps = train.schedule.n_steps
    chunk = next(
        batches(
            corpus,
            batch_size=train.batch_size,
            seq_len=model.seq_len,
            n_steps=n_steps,
            seed=train.data_seed,
            steps_per_chunk=n_steps,
        )
    )
    program, hyper = compile_program(model, train, ONE_DEVICE, TRAIN), hyper_arrays(train)
    with jax.set_mesh(program.mesh):
        look = _look(model, train.compute_dtype)
        state = program.init(jax.random.key(train.init_seed), hyper)
        before = look(state.params, tokens)
        # Donated: the old state is dead after this call.
        state, *_ = program.train_chunk(
            state, hyper, program.put(chunk), jnp.int32(0), jnp.int32(n_steps)
        )
        return _means(before, look(state.params, tokens))


@functools.cache
def _look(model: ModelConfig, compute_dtype: str) -> Callable[..., dict[str, Array]]:
    """(parameters, tokens) to activations; cached, so that seeds share what is compiled."""

    def build() -> Transformer:
        dtype = jnp.dtype(compute_dtype)
        return Transformer(model, compute_dtype=dtype, rngs=nnx.Rngs(params=0), execution=LOOK)

    graphdef, _ = nnx.split(nnx.eval_shape(build))
    return jax.jit(lambda params, tokens: activations(nnx.merge(graphdef, params), tokens))


def _means(before: dict[str, Array], after: dict[str, Array]) -> dict[str, Means]:
    def mean(x: Array) -> float:
        return float(jnp.mean(jnp.abs(x)))

    return {
        name: Means(mean(before[name]), mean(after[name]), mean(after[name] - before[name]))
        for name in before
    }
