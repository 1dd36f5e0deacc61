# SPDX-License-Identifier: Apache-2.0
"""Softmax attention (model/network/mixers/attention.py): its sizes, weights and FLOPs."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from model.field_checks import check_flags, check_real, check_whole
from model.network.counts.layer import LayerConfig, Weight, matrix, vector

if TYPE_CHECKING:
    from model.network.config import ModelConfig
    from model.network.execution import Execution


class AttentionConfig(LayerConfig, frozen=True, kw_only=True, tag="attention"):
    """Causal softmax attention with grouped queries.

    Attributes:
      n_heads: query heads; a multiple of ``n_kv_heads``.
      n_kv_heads: key and value heads; fewer than ``n_heads`` is grouped-query attention
        (Ainslie et al. 2023, arXiv:2305.13245).
      d_head: K, width of one head; even where positions are rotary.
      rope_theta: base of the rotary frequencies (Su et al. 2021, arXiv:2104.09864); None: no
        rotation.
      use_qk_norm: RMSNorm with gain on queries and keys, per head, before the rotation (Henry et
        al. 2020, arXiv:2010.04245; Qwen3).
      window: positions that one attends to, itself and those right before it (Beltagy et al. 2020,
        arXiv:2004.05150, sec. 3.1; as Mistral counts them, arXiv:2310.06825); None: all before it.
    """

    implementation: ClassVar[str] = "model.network.mixers.attention:Attention"

    n_heads: int
    n_kv_heads: int
    d_head: int
    rope_theta: float | None
    use_qk_norm: bool
    window: int | None = None

    def __post_init__(self) -> None:
        check_whole(self, "n_heads n_kv_heads d_head")
        if self.window is not None:
            check_whole(self, "window")
        check_flags(self, "use_qk_norm")
        if self.rope_theta is not None:
            check_real(self, "rope_theta")
            if self.d_head % 2:
                raise ValueError(f"d_head={self.d_head}: rotary positions need an even head width.")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_heads={self.n_heads} is not a multiple of n_kv_heads={self.n_kv_heads}."
            )

    @property
    def queries_per_kv_head(self) -> int:
        return self.n_heads // self.n_kv_heads

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        D, G, Q, K = net.d_model, self.n_kv_heads, self.queries_per_kv_head, self.d_head
        gain = net.hidden_init_gain
        weights = {
            "q_dgqk": matrix("dgqk", (D, G, Q, K), gain),
            "k_dgk": matrix("dgk", (D, G, K), gain),
            "v_dgk": matrix("dgk", (D, G, K), gain),
            "o_gqkd": matrix("gqkd", (G, Q, K, D), net.branch_init_gain, n_in=3),
        }
        if net.use_bias:
            weights |= {
                "q_bias": vector("gqk", (G, Q, K), 0.0),
                "k_bias": vector("gk", (G, K), 0.0),
                "v_bias": vector("gk", (G, K), 0.0),
                "o_bias": vector("d", (D,), 0.0),
            }
        if self.use_qk_norm:
            weights |= {"q_gain": vector("k", (K,), 1.0), "k_gain": vector("k", (K,), 1.0)}
        return weights

    def context_flops(self, net: "ModelConfig", *, is_causal: bool) -> int:
        """QK^T and AV over all T positions: 2 x 2 T n_heads d_head; half of it behind a mask.

        With a window W < T the sequence is cut into blocks of W, each against itself and the one
        before: W (2 T - W) of the T^2 pairs. A mask hides half of these.
        """
        T = net.n_positions
        W = min(self.window or T, T)
        full = 4 * self.n_heads * self.d_head * W * (2 * T - W) // T
        return full // 2 if is_causal else full

    @property
    def sees_both_sides(self) -> bool:
        return self.window is None

    def activation_width(self, net: "ModelConfig") -> int:
        return 2 * net.d_model + self.exchanged_width(net)

    def scores_per_token(self, net: "ModelConfig") -> int:
        return self.n_heads * min(net.n_positions, 2 * (self.window or net.n_positions))

    def exchanged_width(self, net: "ModelConfig") -> int:
        """Queries, keys, values, and the output of the heads."""
        return (2 * self.n_heads + 2 * self.n_kv_heads) * self.d_head

    def is_local(self, execution: "Execution") -> bool:
        return execution.attends_locally

    def columns(self) -> dict[str, int | float | str]:
        windows = {} if self.window is None else {"window": self.window}
        return {"n_heads": self.n_heads, **windows}


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionRule:
    """Width -> heads: n_heads = d_model / head_width within [min_heads, max_heads], rounded down to
    a multiple of queries_per_kv_head; d_head = d_model / n_heads, rounded to an even number, so
    that every width has heads, which grow where there may be no more. Other fields as in
    AttentionConfig.
    """

    head_width: int
    min_heads: int
    max_heads: int
    queries_per_kv_head: int
    rope_theta: float | None
    use_qk_norm: bool
    window: int | None = None

    def __post_init__(self) -> None:
        check_whole(self, "head_width min_heads max_heads queries_per_kv_head")
        if self.window is not None:
            check_whole(self, "window")
        if self.min_heads > self.max_heads:
            raise ValueError(f"min_heads={self.min_heads} is above max_heads={self.max_heads}.")

    def config(self, *, d_model: int, n_layers: int) -> AttentionConfig:
        """Of a network of this width."""
        n_heads = min(max(d_model // self.head_width, self.min_heads), self.max_heads)
        n_kv_heads = max(n_heads // self.queries_per_kv_head, 1)
        n_heads = n_kv_heads * self.queries_per_kv_head
        return AttentionConfig(
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            # Halves upwards: Python's ``round`` would send 1.5 and 2.5 to the same number.
            d_head=2 * max(1, math.floor(d_model / n_heads / 2 + 0.5)),
            rope_theta=self.rope_theta,
            use_qk_norm=self.use_qk_norm,
            window=self.window,
        )
