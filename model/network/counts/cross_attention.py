# SPDX-License-Identifier: Apache-2.0
"""Attention to a source (model/network/mixers/cross_attention.py): its sizes, weights and FLOPs."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from model.field_checks import shown
from model.network.counts.attention import AttentionConfig, AttentionRule
from model.network.counts.layer import Weight, refuse_split_positions

if TYPE_CHECKING:
    from model.network.config import ModelConfig
    from model.network.execution import Execution


class CrossAttentionConfig(AttentionConfig, frozen=True, kw_only=True, tag="cross_attention"):
    """Softmax attention of every position to all of the source, from which keys and values are
    made. Fields as in AttentionConfig; there are no rotary positions, and no window.
    """

    implementation: ClassVar[str] = "model.network.mixers.cross_attention:CrossAttention"
    reads_source: ClassVar[bool] = True

    def __post_init__(self) -> None:
        AttentionConfig.__post_init__(self)
        for name in ("rope_theta", "window"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name}={shown(getattr(self, name))} of cross_attention: places in a target "
                    "and in its source are not counted together. Say None."
                )

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        weights = AttentionConfig.weights(self, net)
        share = Fraction(_source_len(net), net.n_positions)
        of_source = {name: replace(weights[name], share=share) for name in ("k_dgk", "v_dgk")}
        return weights | of_source

    def context_flops(self, net: "ModelConfig", *, is_causal: bool) -> int:
        """QK^T and AV over all S positions of the source; none of them is hidden."""
        return 4 * self.n_heads * self.d_head * _source_len(net)

    def scores_per_token(self, net: "ModelConfig") -> int:
        return self.n_heads * _source_len(net)

    def check(self, net: "ModelConfig", execution: "Execution") -> None:
        refuse_split_positions(execution, "of a source and its target together")


def _source_len(net: "ModelConfig") -> int:
    assert net.encoder is not None, "a network that reads a source has an encoder"
    return net.encoder.source_len


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossAttentionRule:
    """Width -> heads, as AttentionRule makes them."""

    head_width: int
    min_heads: int
    max_heads: int
    queries_per_kv_head: int
    use_qk_norm: bool

    def config(self, *, d_model: int, n_layers: int) -> CrossAttentionConfig:
        """Of a network of this width."""
        made = self._rule.config(d_model=d_model, n_layers=n_layers)
        return CrossAttentionConfig(
            n_heads=made.n_heads,
            n_kv_heads=made.n_kv_heads,
            d_head=made.d_head,
            rope_theta=None,
            use_qk_norm=made.use_qk_norm,
        )

    def __post_init__(self) -> None:
        self._rule  # noqa: B018 (refuses what it cannot be)

    @property
    def _rule(self) -> AttentionRule:
        return AttentionRule(
            head_width=self.head_width,
            min_heads=self.min_heads,
            max_heads=self.max_heads,
            queries_per_kv_head=self.queries_per_kv_head,
            rope_theta=None,
            use_qk_norm=self.use_qk_norm,
        )
