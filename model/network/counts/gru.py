# SPDX-License-Identifier: Apache-2.0
"""Gated recurrent units (model/network/mixers/gru.py): their sizes, weights and FLOPs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from model.field_checks import check_flags, check_real, check_whole
from model.network.counts.layer import (
    LayerConfig,
    Weight,
    matrix,
    refuse_split_positions,
    rounded_width,
    vector,
)

if TYPE_CHECKING:
    from model.network.config import ModelConfig
    from model.network.execution import Execution

N_GATES = 3


class GRUConfig(LayerConfig, frozen=True, kw_only=True, tag="gru"):
    """Gated recurrent units, and a projection of their state to the width of the stream.

    Attributes:
      d_state: H, units of the state.
      use_gate_bias: a bias in every gate, and one more of what the state says to the candidate,
        which the reset gate multiplies. torch.nn.GRU has that of the state in the other two gates,
        too, where only the sum of both counts: ours is the sum.
    """

    implementation: ClassVar[str] = "model.network.mixers.gru:GRU"

    d_state: int
    use_gate_bias: bool

    def __post_init__(self) -> None:
        check_whole(self, "d_state")
        check_flags(self, "use_gate_bias")

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        """Letters as the LSTM's. Gates of the input: candidate, reset, update; of the state: reset,
        update, candidate."""
        D, H, gain = net.d_model, self.d_state, net.hidden_init_gain
        weights = {
            "input_adh": matrix("adh", (N_GATES, D, H), gain, n_lead=1),
            "recurrent_auh": matrix("auh", (N_GATES, H, H), gain, n_lead=1),
            "output_hd": matrix("hd", (H, D), net.branch_init_gain),
        }
        if self.use_gate_bias:
            weights["gate_bias"] = vector("ah", (N_GATES, H), 0.0)
            weights["candidate_bias"] = vector("h", (H,), 0.0)
        if net.use_bias:
            weights["output_bias"] = vector("d", (D,), 0.0)
        return weights

    def activation_width(self, net: "ModelConfig") -> int:
        """Input, gates of it, gates with the state (the candidate's apart), state, output."""
        return 2 * net.d_model + (N_GATES + (N_GATES + 1) + 2) * self.d_state

    def check(self, net: "ModelConfig", execution: "Execution") -> None:
        refuse_split_positions(execution, "which a GRU reads one after the other")

    def columns(self) -> dict[str, int | float | str]:
        return {"d_state": self.d_state}


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
