# SPDX-License-Identifier: Apache-2.0
"""What layers say beside their outputs, and the losses of domains, through the whole loop."""

from dataclasses import replace
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from model.data.corpus import GeneratedCorpus, open_corpus
from model.data.source import Zipf
from model.data.synthetic.zipf import describe
from model.network.channel_mixers.mlp import SwiGLU
from model.network.counts.kinds import BlockConfig
from model.network.counts.mlp import SwiGLUConfig
from model.training.loop import train_pack


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
