# SPDX-License-Identifier: Apache-2.0
"""One recipe for each family of networks: the blocks of `dense-muon` with another mixer, of RWKV-7
and the experts with another channel mixer.

Width, depth, batch, schedule and all else are those of `dense-muon`, which were tuned with
attention (two layers up to width 64 among them). What a family has of its own is its learning rate,
from one sweep at width 32 and 2e10 FLOPs; what is left there costs at most 0.002 nats, by parabolas
(results/benchmarks/notes/families.md). Heads and states are smaller than the papers', as the
networks are.
"""

from dataclasses import replace

from experiments.recipes import dense
from experiments.recipes.dense import DENSE_MUON
from experiments.study.changes import leaves
from experiments.study.explained import Explained
from experiments.study.recipe import BlockRule, Recipe
from model.network.counts.convolution import ConvolutionRule
from model.network.counts.delta_net import DeltaNetRule
from model.network.counts.gru import GRURule
from model.network.counts.kinds import LayerRule
from model.network.counts.lstm import LSTMRule
from model.network.counts.mamba2 import Mamba2Rule
from model.network.counts.moe import MoERule
from model.network.counts.rwkv7 import RWKV7ChannelRule, RWKV7Rule

(ATTENTION,) = DENSE_MUON.shape.blocks


def _mixed_by(mixer: LayerRule) -> BlockRule:
    """A block of the Transformer with another sequence mixer."""
    return replace(ATTENTION, mixer=mixer)


_DELTA = DeltaNetRule(
    is_gated=False, head_width=16, values_per_key=1, key_ratio=1.0, value_ratio=1.0, taps=4
)
LSTM = _mixed_by(LSTMRule(state_ratio=1.0, state_multiple=8, use_gate_bias=True, forget_bias=1.0))
GRU = _mixed_by(GRURule(state_ratio=1.0, state_multiple=8, use_gate_bias=True))
MAMBA2 = _mixed_by(Mamba2Rule(expand=2.0, head_width=16, n_groups=1, d_state=16, taps=4))
DELTA_NET = _mixed_by(_DELTA)
GATED_DELTA_NET = _mixed_by(replace(_DELTA, is_gated=True, key_ratio=0.75, value_ratio=1.5))
# With a channel mixer of its own: 4 D in two matrices is 8/3 D in three.
RWKV7 = BlockRule(
    mixer=RWKV7Rule(head_width=16, rank_multiple=4),
    channel_mixer=RWKV7ChannelRule(ff_ratio=4.0, ff_multiple=16),
)
# Two layers see 28 positions, four 55.
WAVE = tuple(
    _mixed_by(ConvolutionRule(hidden_ratio=1.0, hidden_multiple=8, taps=4, dilation=dilation))
    for dilation in (1, 8)
)
# Four experts of the Transformer's own width, one of them active.
MOE = replace(
    ATTENTION,
    channel_mixer=MoERule(
        n_experts=4,
        n_active=1,
        ff_ratio=8 / 3,
        shared_ratio=0.0,
        ff_multiple=16,
        is_renormalized=False,
        router_init_gain=1.0,
        balance_loss_weight=0.01,
        router_z_loss_weight=1e-3,
    ),
)
# By name its blocks, and the factor on the rates of `dense-muon`.
_FAMILIES: dict[str, tuple[tuple[BlockRule, ...], float]] = {
    "transformer": ((ATTENTION,), 1.0),
    "lstm": ((LSTM,), 1.0),
    "gru": ((GRU,), 0.7),
    "convolution": (WAVE, 0.7),
    "mamba2": ((MAMBA2,), 0.7),
    "delta-net": ((DELTA_NET,), 1.0),
    "gated-delta-net": ((GATED_DELTA_NET,), 0.7),
    "rwkv7": ((RWKV7,), 1.0),
    "window": ((_mixed_by(replace(ATTENTION.mixer, window=32)),), 1.0),  # type: ignore[type-var]
    "hybrid": ((GATED_DELTA_NET, ATTENTION), 1.0),
    "moe": ((MOE,), 1.4),
}
FAMILIES: dict[str, Recipe] = {
    name: DENSE_MUON.with_(name=name, shape__blocks=blocks, optimizer__learning_rate=rate)
    for name, (blocks, rate) in _FAMILIES.items()
}

_RATE = "optimizer.learning_rate"
_UNVARIED = "not varied here"
_RECURRENCE = {
    "mixer.head_width": f"that of attention; {_UNVARIED}",
    "mixer.taps": f"as released; {_UNVARIED}",
}
_DELTA_NET = _RECURRENCE | {
    "mixer.is_gated": "says which of the two it is",
    "mixer.values_per_key": f"as many heads of keys as of values; {_UNVARIED}",
    "mixer.key_ratio mixer.value_ratio": f"the papers'; {_UNVARIED}",
}
_UNITS = {
    "mixer.state_ratio": f"as wide as the stream; {_UNVARIED}",
    "mixer.state_multiple": "tiles",
    "mixer.use_gate_bias": f"as torch's layer; {_UNVARIED}",
}
# By name what it is, and the reasons of what it has of its own.
_WHY: dict[str, tuple[str, dict[str, str]]] = {
    "transformer": ("dense-muon, as one of the families", {}),
    "lstm": (
        "an LSTM in each block",
        _UNITS | {"mixer.forget_bias": "the state is kept at first (Jozefowicz et al. 2015)"},
    ),
    "gru": (
        "gated recurrent units in each block",
        _UNITS | {"mixer.is_bidirectional": "the next token is asked for"},
    ),
    "convolution": (
        "causal convolutions in each block, dilated by 1 and 8",
        {
            "mixer.hidden_ratio": f"as wide as the stream; {_UNVARIED}",
            "mixer.hidden_multiple": "tiles",
            "mixer.taps mixer.dilation": f"two layers see 28 positions; {_UNVARIED}",
        },
    ),
    "mamba2": (
        "Mamba-2 in each block",
        _RECURRENCE
        | {
            "mixer.expand mixer.n_groups": f"the paper's; {_UNVARIED}",
            "mixer.d_state": f"as wide as a head; {_UNVARIED}",
        },
    ),
    "delta-net": ("DeltaNet in each block", _DELTA_NET),
    "gated-delta-net": ("gated DeltaNet in each block", _DELTA_NET),
    "rwkv7": (
        "RWKV-7 in each block, with its channel mixer",
        {
            "mixer.head_width": f"that of attention; {_UNVARIED}",
            "mixer.rank_multiple": "an eighth of the released code's, as the networks are small",
            "channel_mixer.ff_ratio": "the paper's: 4 D in two matrices is 8/3 D in three",
            "channel_mixer.ff_multiple": "tiles",
        },
    ),
    "window": (
        "attention over the last 32 positions",
        {"mixer.window": f"a quarter of 128 positions; {_UNVARIED}"},
    ),
    "hybrid": ("gated DeltaNet and attention in turn", _DELTA_NET),
    "moe": (
        "dense-muon with four experts, of which one is active",
        {
            "channel_mixer.n_experts channel_mixer.n_active": "as many active parameters as "
            f"dense-muon; {_UNVARIED}",
            "channel_mixer.shared_ratio channel_mixer.is_renormalized": f"none; {_UNVARIED}",
            "channel_mixer.router_init_gain": f"that of all matrices; {_UNVARIED}",
            "channel_mixer.balance_loss_weight": "Switch Transformer's (Fedus et al. 2021, "
            f"arXiv:2101.03961); {_UNVARIED}",
            "channel_mixer.router_z_loss_weight": "ST-MoE's (Zoph et al. 2022, arXiv:2202.08906); "
            f"{_UNVARIED}",
        },
    ),
}


def _explained(name: str) -> Explained:
    """Reasons of dense-muon where a number is its own, in whichever block."""
    recipe, like = FAMILIES[name], dense.EXPLAINED[-1]
    about, own = _WHY[name]
    rate = "a factor on the rates of dense-muon: the best of one sweep, at width 32 and 2e10 FLOPs"
    of_second = {
        path: like.reasons[first]
        for path, value in leaves(recipe).items()
        if (first := path.replace("blocks.1", "blocks.0")) != path
        and like.numbers.get(first, recipe) == value
    }
    why = of_second | own | ({} if recipe == DENSE_MUON.with_(name=name) else {_RATE: rate})
    return Explained(recipe=recipe, like=like, about=about, why=why)


EXPLAINED = tuple(map(_explained, FAMILIES))
