# SPDX-License-Identifier: Apache-2.0
"""Gated recurrent units (model/network/mixers/gru.py): their sizes, weights and FLOPs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from model.field_checks import check_flags, check_real, check_whole
from model.network.counts.gated_units import GatedUnitsConfig
from model.network.counts.layer import Weight, rounded_width, vector

if TYPE_CHECKING:
    from model.network.config import ModelConfig


class GRUConfig(GatedUnitsConfig, frozen=True, kw_only=True, tag="gru"):
    """Gated recurrent units. Gates of the input: candidate, reset, update; of the state: reset,
    update, candidate.

    Attributes:
      d_state, use_gate_bias: see GatedUnitsConfig; one bias more is of what the state says to the
        candidate, which the reset gate multiplies. torch.nn.GRU has that of the state in the other
        two gates, too, where only the sum of both counts: ours is the sum.
    """

    implementation: ClassVar[str] = "model.network.mixers.gru:GRU"
    n_gates: ClassVar[int] = 3

    def gate_biases(self) -> dict[str, Weight]:
        more = {"candidate_bias": vector("h", (self.d_state,), 0.0)}
        return GatedUnitsConfig.gate_biases(self) | more

    def activation_width(self, net: "ModelConfig") -> int:
        """Input, gates of it, gates with the state (the candidate's apart), state, output."""
        return 2 * net.d_model + (self.n_gates + (self.n_gates + 1) + 2) * self.d_state


class BidirectionalGRUConfig(GRUConfig, frozen=True, kw_only=True, tag="bidirectional_gru"):
    """Two GRUs of these sizes, one from each end of the sequence; their outputs are added."""

    implementation: ClassVar[str] = "model.network.mixers.bidirectional_gru:BidirectionalGRU"
    sees_ahead: ClassVar[bool] = True

    @property
    def of_each_end(self) -> GRUConfig:
        return GRUConfig(d_state=self.d_state, use_gate_bias=self.use_gate_bias)

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        one = self.of_each_end.weights(net)
        return {f"{end}.{name}": one[name] for end in ("ahead", "behind") for name in one}

    def activation_width(self, net: "ModelConfig") -> int:
        return 2 * self.of_each_end.activation_width(net)

    @property
    def sees_both_sides(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True, slots=True)
class GRURule:
    """Width -> d_state = state_ratio d_model, rounded to a multiple of state_multiple; of each end
    where it is bidirectional.
    """

    state_ratio: float
    state_multiple: int
    use_gate_bias: bool
    is_bidirectional: bool = False

    def __post_init__(self) -> None:
        check_real(self, "state_ratio")
        check_whole(self, "state_multiple")
        check_flags(self, "use_gate_bias is_bidirectional")

    def config(self, *, d_model: int, n_layers: int) -> GRUConfig:
        """Of a network of this width."""
        d_state = rounded_width(self.state_ratio, self.state_multiple, d_model)
        kind = BidirectionalGRUConfig if self.is_bidirectional else GRUConfig
        return kind(d_state=d_state, use_gate_bias=self.use_gate_bias)
