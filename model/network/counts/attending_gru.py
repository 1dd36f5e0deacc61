# SPDX-License-Identifier: Apache-2.0
"""A GRU that reads a source (model/network/mixers/attending_gru.py): its sizes, weights, FLOPs."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from model.field_checks import check_flags, check_real, check_whole
from model.network.counts.gru import GRUConfig
from model.network.counts.layer import Weight, matrix, rounded_width

if TYPE_CHECKING:
    from model.network.config import ModelConfig


class AttendingGRUConfig(GRUConfig, frozen=True, kw_only=True, tag="attending_gru"):
    """Gated recurrent units whose gates hear, too, what their state asks of the source.

    Attributes:
      d_attention: K, units of the additive attention; None: no attention, the gates hear what the
        encoder made of the last token of the source.
      d_state, use_gate_bias: as in GRUConfig.
    """

    implementation: ClassVar[str] = "model.network.mixers.attending_gru:AttendingGRU"
    reads_source: ClassVar[bool] = True

    d_attention: int | None

    def __post_init__(self) -> None:
        GRUConfig.__post_init__(self)
        if self.d_attention is not None:
            check_whole(self, "d_attention")

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        D, H, K, gain = net.d_model, self.d_state, self.d_attention, net.hidden_init_gain
        once = Fraction(1, net.n_positions)  # For all positions.
        told = matrix(
            "adh", (self.n_gates, D, H), gain, n_lead=1, share=once if K is None else Fraction(1)
        )
        own = {"begin_dh": matrix("dh", (D, H), gain, share=once), "told_adh": told}
        if K is not None:
            share = Fraction(_source_len(net), net.n_positions)
            own |= {
                "query_uk": matrix("uk", (H, K), gain),
                "key_dk": matrix("dk", (D, K), gain, share=share),
                "score_k": Weight(axes="k", shape=(K,), role="vector", std=gain / math.sqrt(K)),
            }
        return GRUConfig.weights(self, net) | own

    def context_flops(self, net: "ModelConfig", *, is_causal: bool) -> int:
        """Scores of S tokens, and the sum of what the encoder made of them."""
        if self.d_attention is None:
            return 0
        return 2 * _source_len(net) * (self.d_attention + net.d_model)

    def scores_per_token(self, net: "ModelConfig") -> int:
        return 0 if self.d_attention is None else _source_len(net)

    def columns(self) -> dict[str, int | float | str]:
        return {"d_state": self.d_state, "d_attention": self.d_attention or 0}


def _source_len(net: "ModelConfig") -> int:
    assert net.encoder is not None, "a network that reads a source has an encoder"
    return net.encoder.source_len


@dataclass(frozen=True, kw_only=True, slots=True)
class AttendingGRURule:
    """Width -> d_state = state_ratio d_model, rounded to a multiple of state_multiple, and
    d_attention = attention_ratio d_model likewise; None: no attention.
    """

    state_ratio: float
    state_multiple: int
    use_gate_bias: bool
    attention_ratio: float | None

    def __post_init__(self) -> None:
        check_real(self, "state_ratio")
        check_whole(self, "state_multiple")
        check_flags(self, "use_gate_bias")
        if self.attention_ratio is not None:
            check_real(self, "attention_ratio")

    def config(self, *, d_model: int, n_layers: int) -> AttendingGRUConfig:
        """Of a network of this width."""

        def width(ratio: float) -> int:
            return rounded_width(ratio, self.state_multiple, d_model)

        ratio = self.attention_ratio
        return AttendingGRUConfig(
            d_state=width(self.state_ratio),
            use_gate_bias=self.use_gate_bias,
            d_attention=None if ratio is None else width(ratio),
        )
