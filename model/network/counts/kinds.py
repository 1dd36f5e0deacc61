# SPDX-License-Identifier: Apache-2.0
"""The architectures there are: a new one is its two files and a word here."""

import dataclasses
import sys
from typing import TYPE_CHECKING, Protocol, Union

import msgspec

from model.network.counts.attending_gru import AttendingGRUConfig
from model.network.counts.attention import AttentionConfig
from model.network.counts.convolution import ConvolutionConfig
from model.network.counts.cross_attention import CrossAttentionConfig
from model.network.counts.delta_net import DeltaNetConfig, GatedDeltaNetConfig
from model.network.counts.gru import BidirectionalGRUConfig, GRUConfig
from model.network.counts.layer import LayerConfig
from model.network.counts.lstm import LSTMConfig
from model.network.counts.mamba2 import Mamba2Config
from model.network.counts.masked_convolution import MaskedConvolutionConfig
from model.network.counts.mlp import GELUConfig, SwiGLUConfig
from model.network.counts.moe import MoEConfig
from model.network.counts.rwkv7 import RWKV7ChannelConfig, RWKV7Config

MIXERS = (
    AttentionConfig,
    CrossAttentionConfig,
    LSTMConfig,
    GRUConfig,
    BidirectionalGRUConfig,
    AttendingGRUConfig,
    ConvolutionConfig,
    MaskedConvolutionConfig,
    Mamba2Config,
    DeltaNetConfig,
    GatedDeltaNetConfig,
    RWKV7Config,
)
CHANNEL_MIXERS = (SwiGLUConfig, GELUConfig, MoEConfig, RWKV7ChannelConfig)

if TYPE_CHECKING:
    Mixer = LayerConfig
    ChannelMixer = LayerConfig
else:
    Mixer = Union[MIXERS]  # noqa: UP007 (of a tuple)
    ChannelMixer = Union[CHANNEL_MIXERS]  # noqa: UP007


class BlockConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One block: x + m mixer(norm(x)), then x + m channel_mixer(norm(x)), where there is one."""

    mixer: Mixer
    channel_mixer: ChannelMixer | None

    @property
    def layers(self) -> tuple[LayerConfig, ...]:
        both = (self.mixer, self.channel_mixer)
        return tuple(layer for layer in both if layer is not None)


def rules() -> list[type]:
    """The rule of each kind: the dataclass in its file that makes its sizes."""
    homes = dict.fromkeys(kind.__module__ for kind in (*MIXERS, *CHANNEL_MIXERS))
    found = dict.fromkeys(one for home in homes for one in _classes(home))
    return [one for one in found if dataclasses.is_dataclass(one) and hasattr(one, "config")]


def _classes(module: str) -> list[type]:
    return [one for one in vars(sys.modules[module]).values() if isinstance(one, type)]


class LayerRule(Protocol):
    """How the sizes of a layer follow from those of the network, in a recipe."""

    def config(self, *, d_model: int, n_layers: int) -> LayerConfig:
        """Raises ValueError where there is none for this width and depth."""
