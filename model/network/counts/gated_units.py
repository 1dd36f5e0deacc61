# SPDX-License-Identifier: Apache-2.0
"""What layers of gated recurrent units (model/network/mixers/gated_units.py) have in common: their
sizes and weights.
"""

from typing import TYPE_CHECKING, ClassVar

from model.field_checks import check_flags, check_whole
from model.network.counts.layer import LayerConfig, Weight, matrix, refuse_split_positions, vector

if TYPE_CHECKING:
    from model.network.config import ModelConfig
    from model.network.execution import Execution


class GatedUnitsConfig(LayerConfig, frozen=True, kw_only=True):
    """Units with gates of the input and of their state, projected to the width of the stream.

    Attributes:
      d_state: H, units of the state.
      use_gate_bias: a bias in every gate.
    """

    n_gates: ClassVar[int]

    d_state: int
    use_gate_bias: bool

    def __post_init__(self) -> None:
        check_whole(self, "d_state")
        check_flags(self, "use_gate_bias")

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        """Letters: a, the gates; u, the units of the state before, which are H again, but whole on
        every device, for a mesh axis splits one dimension only."""
        D, H, gain = net.d_model, self.d_state, net.hidden_init_gain
        weights = {
            "input_adh": matrix("adh", (self.n_gates, D, H), gain, n_lead=1),
            "recurrent_auh": matrix("auh", (self.n_gates, H, H), gain, n_lead=1),
            "output_hd": matrix("hd", (H, D), net.branch_init_gain),
        }
        if self.use_gate_bias:
            weights |= self.gate_biases()
        if net.use_bias:
            weights["output_bias"] = vector("d", (D,), 0.0)
        return weights

    def gate_biases(self) -> dict[str, Weight]:
        return {"gate_bias": vector("ah", (self.n_gates, self.d_state), 0.0)}

    def check(self, net: "ModelConfig", execution: "Execution") -> None:
        refuse_split_positions(execution, "which it reads one after the other")

    def columns(self) -> dict[str, int | float | str]:
        return {"d_state": self.d_state}
