# SPDX-License-Identifier: Apache-2.0
"""The LSTM (model/network/mixers/lstm.py): its sizes, weights and FLOPs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from model.field_checks import HUGE, check_real, check_whole
from model.network.counts.gated_units import GatedUnitsConfig
from model.network.counts.layer import rounded_width

if TYPE_CHECKING:
    from model.network.config import ModelConfig


class LSTMConfig(GatedUnitsConfig, frozen=True, kw_only=True, tag="lstm"):
    """A long short-term memory.

    Attributes:
      d_state, use_gate_bias: see GatedUnitsConfig. torch.nn.LSTM has two biases, of the input and
        of the state, that are only ever added up: this one is their sum.
      forget_bias: what the forget gate's bias begins with; added there, so that the learned bias
        begins with zero. Above zero the state is kept at first (Jozefowicz et al. 2015, sec. 2.2,
        proceedings.mlr.press/v37/jozefowicz15).
    """

    implementation: ClassVar[str] = "model.network.mixers.lstm:LSTM"
    n_gates: ClassVar[int] = 4

    forget_bias: float

    def __post_init__(self) -> None:
        GatedUnitsConfig.__post_init__(self)
        check_real(self, "forget_bias", low=-HUGE)

    def activation_width(self, net: "ModelConfig") -> int:
        """Input and state into the gates, gates, state, output."""
        return 2 * net.d_model + (2 * self.n_gates + 2) * self.d_state


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
