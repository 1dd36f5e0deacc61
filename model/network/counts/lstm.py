# SPDX-License-Identifier: Apache-2.0
"""The LSTM (model/network/mixers/lstm.py): its sizes, weights and FLOPs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from model.field_checks import HUGE, check_flags, check_real, check_whole
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

N_GATES = 4


class LSTMConfig(LayerConfig, frozen=True, kw_only=True, tag="lstm"):
    """A long short-term memory, and a projection of its state to the width of the stream.

    Attributes:
      d_state: H, units of the state.
      use_gate_bias: a bias in every gate. torch.nn.LSTM has two, of the input and of the state,
        that are only ever added up: this one is their sum.
      forget_bias: what the forget gate's bias begins with; added there, so that the learned bias
        begins with zero. Above zero the state is kept at first (Jozefowicz et al. 2015, sec. 2.2,
        proceedings.mlr.press/v37/jozefowicz15).
    """

    implementation: ClassVar[str] = "model.network.mixers.lstm:LSTM"

    d_state: int
    use_gate_bias: bool
    forget_bias: float

    def __post_init__(self) -> None:
        check_whole(self, "d_state")
        check_flags(self, "use_gate_bias")
        check_real(self, "forget_bias", low=-HUGE)

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        """Letters: a, the gates; u, the units of the state before, which are H again, but whole on
        every device, for a mesh axis splits one dimension only."""
        D, H, gain = net.d_model, self.d_state, net.hidden_init_gain
        weights = {
            "input_adh": matrix("adh", (N_GATES, D, H), gain, n_lead=1),
            "recurrent_auh": matrix("auh", (N_GATES, H, H), gain, n_lead=1),
            "output_hd": matrix("hd", (H, D), net.branch_init_gain),
        }
        if self.use_gate_bias:
            weights["gate_bias"] = vector("ah", (N_GATES, H), 0.0)
        if net.use_bias:
            weights["output_bias"] = vector("d", (D,), 0.0)
        return weights

    def activation_width(self, net: "ModelConfig") -> int:
        """Input and state into the gates, gates, state, output."""
        return 2 * net.d_model + (2 * N_GATES + 2) * self.d_state

    def check(self, net: "ModelConfig", execution: "Execution") -> None:
        refuse_split_positions(execution, "which an LSTM reads one after the other")

    def columns(self) -> dict[str, int | float | str]:
        return {"d_state": self.d_state}


@dataclass(frozen=True, kw_only=True, slots=True)
class LSTMRule:
    """Width -> d_state = state_ratio d_model, rounded to a multiple of state_multiple. Other fields
    as in LSTMConfig.
    """

    state_ratio: float
    state_multiple: int
    use_gate_bias: bool
    forget_bias: float

    def __post_init__(self) -> None:
        check_real(self, "state_ratio")
        check_whole(self, "state_multiple")

    def config(self, *, d_model: int, n_layers: int) -> LSTMConfig:
        """Of a network of this width."""
        return LSTMConfig(
            d_state=rounded_width(self.state_ratio, self.state_multiple, d_model),
            use_gate_bias=self.use_gate_bias,
            forget_bias=self.forget_bias,
        )
