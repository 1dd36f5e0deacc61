# SPDX-License-Identifier: Apache-2.0
"""Networks that recall, and those that cannot."""

from dataclasses import replace

import pytest
from small_networks import LLAMA, vary

from model.data.corpus import GeneratedCorpus
from model.data.source import Recall
from model.data.synthetic.open_language import describe_language
from model.data.synthetic.recall import entropy_nats, least_loss_nats
from model.network.counts.convolution import ConvolutionConfig
from model.training.config import EvalConfig, TrainConfig
from model.training.loop import train_pack


@pytest.mark.slow(reason="half a minute of training")
def test_attention_recalls_and_what_remembers_nothing_stays_at_its_limit(
    train_config: TrainConfig,
) -> None:
    """A convolution of one tap has no state: it loses at least ln V for every answer."""
    source = Recall(n_keys=8, n_values=8, n_pairs=4, n_queries=8)
    corpus = GeneratedCorpus(describe_language(source), source)
    attending = vary(
        LLAMA, vocab_size=source.vocab_size, seq_len=25, d_model=32, d_head=16, n_heads=2,
        n_kv_heads=2, d_ff=64,
    )  # fmt: skip
    blind = vary(attending, mixers=(ConvolutionConfig(d_hidden=32, taps=1, dilation=1),))
    schedule = replace(train_config.schedule, n_steps=600, warmup_steps=60, decay_steps=540)
    evaluation = EvalConfig(n_tokens=25 * 400, curve_tokens=25, n_points=1, seed=0)
    config = replace(train_config, batch_size=64, schedule=schedule, evaluation=evaluation)
    limit, entropy = least_loss_nats(source, 0.0), entropy_nats(source)
    losses = [train_pack(net, [config], corpus)[0].loss_nats for net in (attending, blind)]
    assert entropy - 0.01 < losses[0] < entropy + 0.3 * (limit - entropy)
    assert losses[1] > limit
