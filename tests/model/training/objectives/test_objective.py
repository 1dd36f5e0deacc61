# SPDX-License-Identifier: Apache-2.0
"""An objective of another kind through the whole loop: what it wants, draws, bounds and says."""

import sys
from dataclasses import replace
from types import ModuleType
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from model.data.corpus import GeneratedCorpus, open_corpus
from model.data.source import Zipf
from model.data.zipf import describe
from model.network.channel_mixers.mlp import SwiGLU
from model.network.context import Context
from model.network.counts.kinds import BlockConfig
from model.network.counts.mlp import SwiGLUConfig
from model.training import config as training_config
from model.training.loop import train_pack
from model.training.objectives.next_token import next_token_nats
from model.training.objectives.objective import Measured, Minimised


class Masked:
    """A share of the tokens is replaced by token 0 and guessed from both sides: a bound."""

    unit, is_bound, is_causal = "token", True, False

    def arrays(self, net, batch_size):
        shape = (batch_size, net.seq_len)
        return {"tokens": (shape, jnp.int32), "first": (shape[:1], jnp.int32)}

    def from_windows(self, windows):
        return {"tokens": windows[..., :-1], "first": windows[..., 0]}

    def _nats(self, network, batch, key):
        tokens = batch["tokens"]
        is_masked = jax.random.bernoulli(key, 0.3, tokens.shape)
        inputs = jnp.where(is_masked, 0, tokens)
        logits, said = network(inputs, Context(is_causal=False, key=key))
        return jnp.where(is_masked, next_token_nats(logits, tokens)[0], 0.0), is_masked, said

    def loss(self, network, batch, key, hyper, n_chunks):
        nats, is_masked, said = self._nats(network, batch, key)
        n = jnp.sum(is_masked, dtype=jnp.float32)
        mean = jnp.sum(nats) / jnp.maximum(n, 1.0)
        return Minimised(mean, mean, said)

    def evaluate(self, network, batch, key, n_chunks):
        nats, is_masked, _ = self._nats(network, batch, key)
        return Measured(nats, is_masked)


class PenalisedConfig(SwiGLUConfig, frozen=True, kw_only=True, tag="penalised"):
    implementation: ClassVar[str] = f"{__name__}:Penalised"
    says: ClassVar[tuple[str, ...]] = ("size", "ones")

    weight: float

    def loss_weights(self):
        return {"size": self.weight}


class Penalised(SwiGLU):
    def __call__(self, x, context):
        out, context, _ = super().__call__(x, context)
        return out, context, {"size": jnp.mean(out**2), "ones": jnp.float32(1)}


class TwoDomains(GeneratedCorpus):
    def validation_domains(self, n_tokens, seq_len, seed):
        n = -(-n_tokens // seq_len)
        return {"odd": np.arange(n) % 2 == 1, "even": np.arange(n) % 2 == 0}


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("model.training.objectives.masked")
    module.OBJECTIVE = Masked()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(training_config, "OBJECTIVES", ("next_token", "masked"))
    return "masked"


def test_an_objective_is_one_file(masked, network_config, train_config, corpus):
    config = replace(train_config, objective=masked)
    told = []
    (result,) = train_pack(network_config, [config], corpus, on_progress=told.extend)
    loss = result.losses["all"]
    assert loss.is_bound
    assert loss.by_context == ()
    # About three tenths of the 704 tokens of 44 windows were guessed.
    assert 0.2 * 704 < loss.n_units < 0.4 * 704
    assert loss.nats < told[0].loss_nats
    (again,) = train_pack(network_config, [config], corpus)
    assert again.params_sha256 == result.params_sha256
    (other,) = train_pack(network_config, [replace(config, data_seed=1)], corpus)
    assert other.params_sha256 != result.params_sha256


def test_what_layers_say_enters_the_loss_by_weight_and_is_told(
    network_config, train_config, corpus
):
    def trained(weight):
        mlp = PenalisedConfig(d_ff=24, weight=weight)
        block = BlockConfig(mixer=network_config.blocks[0].mixer, channel_mixer=mlp)
        told = []
        net = replace(network_config, n_layers=2, blocks=(block,))
        train_pack(net, [train_config], corpus, on_progress=told.extend)
        return told[-1]

    free, bound = trained(0.0), trained(10.0)
    assert free.said["ones"] == bound.said["ones"] == 2.0
    assert bound.said["size"] < 0.5 * free.said["size"]
    # The loss that is told is without it.
    assert bound.loss_nats < free.loss_nats + 1.0


def test_layers_that_weigh_one_thing_differently_are_refused(network_config):
    mixer = network_config.blocks[0].mixer
    blocks = tuple(
        BlockConfig(mixer=mixer, channel_mixer=PenalisedConfig(d_ff=24, weight=weight))
        for weight in (1.0, 2.0)
    )
    with pytest.raises(ValueError, match=r"size weighs 1 in one layer and 2 in another"):
        replace(network_config, n_layers=2, blocks=blocks)


def test_losses_of_domains_add_up_to_the_loss_of_all(network_config, still_config):
    source = Zipf(alpha=0.5, epsilon=0.1, base=8, n_digits=2, n_answers=1, language_seed=0)
    parted = TwoDomains(describe(source), source)
    (result,) = train_pack(network_config, [still_config], parted)
    (whole,) = train_pack(network_config, [still_config], open_corpus(describe(source), ""))
    losses = result.losses
    assert set(losses) == {"all", "odd", "even"}
    assert losses["all"] == whole.losses["all"]
    n_units = losses["odd"].n_units + losses["even"].n_units
    assert n_units == losses["all"].n_units == 44 * 16
    total = sum(losses[name].nats * losses[name].n_units for name in ("odd", "even"))
    assert total / n_units == pytest.approx(losses["all"].nats, rel=1e-6)
    assert losses["odd"].nats != losses["even"].nats
