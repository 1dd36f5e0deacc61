# SPDX-License-Identifier: Apache-2.0
"""DeltaNet and gated DeltaNet (model/network/mixers/): sizes, weights and FLOPs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from model.field_checks import check_flags, check_real, check_whole
from model.network.counts.layer import Weight, matrix, rounded_width, vector
from model.network.counts.linear_recurrence import RecurrenceConfig, decays, taps

if TYPE_CHECKING:
    from model.network.config import ModelConfig


class DeltaNetConfig(RecurrenceConfig, frozen=True, kw_only=True, tag="delta_net"):
    """Linear attention that erases what a key had before it writes.

    Attributes:
      n_heads: heads of values, each with a state; a multiple of ``n_key_heads``.
      n_key_heads: G, heads of queries and keys; the paper has as many as of values.
      d_key, d_value: K and P, widths of a head.
      taps: C, positions that the short convolutions take in.
    """

    implementation: ClassVar[str] = "model.network.mixers.delta_net:DeltaNet"
    erases = "key"

    n_heads: int
    n_key_heads: int
    d_key: int
    d_value: int
    taps: int

    def __post_init__(self) -> None:
        check_whole(self, "n_heads n_key_heads d_key d_value taps")
        if self.n_heads % self.n_key_heads:
            raise ValueError(
                f"n_heads={self.n_heads} is not a multiple of n_key_heads={self.n_key_heads}."
            )

    @property
    def heads_per_key(self) -> int:
        return self.n_heads // self.n_key_heads

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        D, G, Q, K, P = net.d_model, self.n_key_heads, self.heads_per_key, self.d_key, self.d_value
        inner = {"q": ("gk", (G, K)), "k": ("gk", (G, K)), "v": ("gqp", (G, Q, P))}
        maps = {**inner, "beta": ("gq", (G, Q))}
        weights = {
            f"{name}_d{letters}": matrix(f"d{letters}", (D, *shape), net.hidden_init_gain)
            for name, (letters, shape) in maps.items()
        }
        weights |= {f"{name}_taps": taps(*of, self.taps) for name, of in inner.items()}
        weights["gain"] = vector("p", (P,), 1.0)
        weights["output_gqpd"] = matrix("gqpd", (G, Q, P, D), net.branch_init_gain, n_in=3)
        if net.use_bias:
            weights |= {f"{name}_bias": vector(*of, 0.0) for name, of in maps.items()}
            weights["output_bias"] = vector("d", (D,), 0.0)
        return weights

    @property
    def heads(self) -> tuple[int, int, int, int]:
        return self.n_key_heads, self.n_heads, self.d_key, self.d_value

    def activation_width(self, net: "ModelConfig") -> int:
        """Input; queries, keys, values, beta; output of the heads; output."""
        keys, values = self.n_key_heads * self.d_key, self.n_heads * self.d_value
        return 2 * net.d_model + 2 * keys + 2 * values + self.n_heads

    def columns(self) -> dict[str, int | float | str]:
        return {"n_heads": self.n_heads, "d_key": self.d_key}


class GatedDeltaNetConfig(DeltaNetConfig, frozen=True, kw_only=True, tag="gated_delta_net"):
    """A DeltaNet whose state decays by one number for each head and position, as Mamba-2's does,
    and whose output has a gate."""

    implementation: ClassVar[str] = "model.network.mixers.gated_delta_net:GatedDeltaNet"

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        D, G, Q, P = net.d_model, self.n_key_heads, self.heads_per_key, self.d_value
        weights = DeltaNetConfig.weights(self, net) | {
            "gate_dgqp": matrix("dgqp", (D, G, Q, P), net.hidden_init_gain),
            "dt_dgq": matrix("dgq", (D, G, Q), net.hidden_init_gain),
        }
        if net.use_bias:
            weights["gate_bias"] = vector("gqp", (G, Q, P), 0.0)
        return weights | decays(G, Q)

    def activation_width(self, net: "ModelConfig") -> int:
        """The gate and dt, too."""
        more = self.n_heads * (self.d_value + 1)
        return DeltaNetConfig.activation_width(self, net) + more


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaNetRule:
    """Width -> n_heads = d_model / head_width, rounded down to a multiple of values_per_key, the
    heads of values for one of keys; d_key = key_ratio d_model / n_heads, d_value likewise. Other
    fields as in DeltaNetConfig.

    The papers have taps=4, values_per_key=1 and, of DeltaNet, head_width=128 and both ratios 1; of
    gated DeltaNet heads of d_key=256 with key_ratio=0.75 and value_ratio=1.5.

    Attributes:
      is_gated: whether it is a gated DeltaNet.
    """

    is_gated: bool
    head_width: int
    values_per_key: int
    key_ratio: float
    value_ratio: float
    taps: int

    def __post_init__(self) -> None:
        check_flags(self, "is_gated")
        check_whole(self, "head_width values_per_key taps")
        check_real(self, "key_ratio value_ratio")

    def config(self, *, d_model: int, n_layers: int) -> DeltaNetConfig:
        """Of a network of this width."""
        n_key_heads = max(1, d_model // self.head_width // self.values_per_key)
        n_heads = n_key_heads * self.values_per_key
        kind = GatedDeltaNetConfig if self.is_gated else DeltaNetConfig
        return kind(
            n_heads=n_heads,
            n_key_heads=n_key_heads,
            d_key=rounded_width(self.key_ratio / n_heads, 1, d_model),
            d_value=rounded_width(self.value_ratio / n_heads, 1, d_model),
            taps=self.taps,
        )
