# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts (model/network/channel_mixers/moe.py): its sizes, weights and FLOPs."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from model.field_checks import check_flags, check_real, check_whole
from model.network.counts.layer import LayerConfig, Weight, matrix, rounded_width
from model.network.counts.mlp import SwiGLUConfig

if TYPE_CHECKING:
    from model.network.config import ModelConfig
    from model.network.execution import Execution


class MoEConfig(LayerConfig, frozen=True, kw_only=True, tag="moe"):
    """Each token goes through the k of E SwiGLUs that a softmax router gives the most to.

    Shazeer et al. 2017 (arXiv:1701.06538), sec. 2; without a capacity, so no token is dropped (Gale
    et al. 2022, arXiv:2211.15841). Mixtral (Jiang et al. 2024, arXiv:2401.04088): k = 2 of 8,
    renormalised.

    The router is a hidden matrix: it maps D to a number of experts that does not grow with D, so
    it is muP's output weight, whose rate under AdamW falls as 1 / D like a hidden one's where no
    multiplier stands behind it, and whose initial variance falls as 1 / D^2 (Yang et al. 2022,
    arXiv:2203.03466, table 3; of routers Malasnicki et al. 2025, arXiv:2508.09752). Its gradient is
    m_N times a hidden matrix's (training/optimizers/), so AdamW's eps matters less there.

    Attributes:
      n_experts: E.
      n_active: k, experts of a token.
      d_ff: F, hidden width of one expert.
      d_ff_shared: of an expert more that all tokens have, unweighted (Dai et al. 2024,
        arXiv:2401.06066); 0: none.
      is_renormalized: whether the weights of the k are divided by their sum; else they are the
        softmax over all E.
      router_init_gain: the router ~ N(0, (gain / D)^2). With 0 all tokens begin with the same k.
      balance_loss_weight: of E sum_e f_e P_e in the training loss, f_e being the share of tokens
        that choose e and P_e its mean probability (Fedus et al. 2021, arXiv:2101.03961, eq. 4); k
        where experts are chosen evenly. One term for each layer, of the tokens of one microbatch.
      router_z_loss_weight: of mean((log sum_e exp logit_e)^2) likewise (Zoph et al. 2022,
        arXiv:2202.08906, eq. 5).
    """

    implementation: ClassVar[str] = "model.network.channel_mixers.moe:MoE"
    says: ClassVar[tuple[str, ...]] = ("balance", "router_z")

    n_experts: int
    n_active: int
    d_ff: int
    d_ff_shared: int
    is_renormalized: bool
    router_init_gain: float
    balance_loss_weight: float
    router_z_loss_weight: float

    def __post_init__(self) -> None:
        check_whole(self, "n_experts n_active d_ff")
        check_whole(self, "d_ff_shared", low=0)
        check_flags(self, "is_renormalized")
        check_real(self, "router_init_gain balance_loss_weight router_z_loss_weight", low=0.0)
        if self.n_active > self.n_experts:
            raise ValueError(f"n_active={self.n_active} is above n_experts={self.n_experts}.")

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        """Raises ValueError if the network has biases: experts have none."""
        if net.use_bias:
            raise ValueError("use_bias=True: experts have no biases. Say use_bias=False.")
        E, D, F = self.n_experts, net.d_model, self.d_ff
        weights = {"router_de": replace(matrix("de", (D, E), 1.0), std=self.router_init_gain / D)}
        into, out = net.hidden_init_gain, net.branch_init_gain
        for name, axes, shape, gain in (
            ("gate_edf", "edf", (E, D, F), into),
            ("up_edf", "edf", (E, D, F), into),
            ("down_efd", "efd", (E, F, D), out),
        ):
            share = Fraction(self.n_active, E)
            weights[name] = matrix(axes, shape, gain, n_lead=1, share=share)
        if self.d_ff_shared:
            weights |= SwiGLUConfig(d_ff=self.d_ff_shared).weights(net)
        return weights

    @property
    def sees_both_sides(self) -> bool:
        return True

    def activation_width(self, net: "ModelConfig") -> int:
        widths = [self.d_ff] * self.n_active + [self.d_ff_shared] * bool(self.d_ff_shared)
        return net.d_model + self.n_experts + sum(2 * net.d_model + 3 * width for width in widths)

    def loss_weights(self) -> dict[str, float]:
        return {"balance": self.balance_loss_weight, "router_z": self.router_z_loss_weight}

    def is_local(self, execution: "Execution") -> bool:
        return True

    def columns(self) -> dict[str, int | float | str]:
        return {"d_ff": self.d_ff, "n_experts": self.n_experts, "n_active": self.n_active}


@dataclass(frozen=True, kw_only=True, slots=True)
class MoERule:
    """Width -> d_ff = ff_ratio d_model and d_ff_shared = shared_ratio d_model, each rounded to a
    multiple of ff_multiple; shared_ratio=0: no shared expert. Other fields as in MoEConfig.
    """

    n_experts: int
    n_active: int
    ff_ratio: float
    shared_ratio: float
    ff_multiple: int
    is_renormalized: bool
    router_init_gain: float
    balance_loss_weight: float
    router_z_loss_weight: float

    def __post_init__(self) -> None:
        check_real(self, "ff_ratio")
        check_real(self, "shared_ratio", low=0.0)
        check_whole(self, "ff_multiple")
        self.config(d_model=1, n_layers=1)  # Which checks what it has of MoEConfig's.

    def config(self, *, d_model: int, n_layers: int) -> MoEConfig:
        """Of a network of this width."""
        shared = self.shared_ratio and rounded_width(self.shared_ratio, self.ff_multiple, d_model)
        return MoEConfig(
            n_experts=self.n_experts,
            n_active=self.n_active,
            d_ff=rounded_width(self.ff_ratio, self.ff_multiple, d_model),
            d_ff_shared=int(shared),
            is_renormalized=self.is_renormalized,
            router_init_gain=self.router_init_gain,
            balance_loss_weight=self.balance_loss_weight,
            router_z_loss_weight=self.router_z_loss_weight,
        )
