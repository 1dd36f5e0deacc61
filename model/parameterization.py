# SPDX-License-Identifier: Apache-2.0
"""Transfer of learning rates, decay and initialisation across width and depth. No JAX.

CompleteP (Dey et al. 2025, arXiv:2505.01618, table 1, with alpha = 1), which extends muP (Yang et
al. 2022, arXiv:2203.03466, table 8) to depth. With m_N = d_model / base width and m_L = n_layers /
base depth:

  =====================  =========================  ==========================
  quantity               input, vector, output      hidden
  =====================  =========================  ==========================
  initial variance       base                       1 / fan_in  (so base / m_N)
  learning rate          base                       base / m_N
  weight decay           base                       base x m_N
  AdamW eps              base / m_N (vector:        base / (m_N m_L)
                         base / (m_N m_L))
  residual branch        x 1 / m_L
  logits                 x 1 / m_N
  =====================  =========================  ==========================

Rate times decay, the timescale over which AdamW forgets (Wang & Aitchison 2024, arXiv:2405.13698),
is then the same at every width.
"""

from dataclasses import dataclass

from model.ranges import check_real, check_whole
from model.training.config import GroupConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseConstants:
    """Constants tuned at the base shape.

    Attributes:
      d_model, n_layers: the base shape.
      hidden_rate, input_rate, output_rate, vector_rate: peak learning rates by role.
      eps: AdamW's epsilon.
      residual_multiplier, logit_multiplier: factors on residual branches and on logits.
    """

    d_model: int
    n_layers: int
    hidden_rate: float
    input_rate: float
    output_rate: float
    vector_rate: float
    eps: float
    residual_multiplier: float
    logit_multiplier: float

    def __post_init__(self) -> None:
        check_whole(self, "d_model n_layers")
        check_real(self, "hidden_rate input_rate output_rate vector_rate")
        check_real(self, "eps", low=0.0)
        check_real(self, "residual_multiplier logit_multiplier")


@dataclass(frozen=True, kw_only=True, slots=True)
class Transferred:
    """What CompleteP gives for one width and depth; weight decay not yet included."""

    input: GroupConfig
    hidden: GroupConfig
    output: GroupConfig
    vector: GroupConfig
    residual_multiplier: float
    logit_multiplier: float


def transfer(
    base: BaseConstants, *, d_model: int, n_layers: int, decay_per_step: float
) -> Transferred:
    """Constants of this width and depth from those of the base shape, by the table above.

    Args:
      base: constants at the base shape.
      d_model, n_layers: the shape asked for.
      decay_per_step: rate x weight decay at the peak rate, the fraction by which hidden and input
        weights shrink per step; gains and biases are not decayed.
    """
    m_width, m_depth = d_model / base.d_model, n_layers / base.n_layers
    hidden_rate = base.hidden_rate / m_width

    def group(rate: float, eps: float, decay: float) -> GroupConfig:
        return GroupConfig(learning_rate=rate, weight_decay=decay / rate, eps=eps)

    return Transferred(
        input=group(base.input_rate, base.eps / m_width, decay_per_step),
        hidden=group(hidden_rate, base.eps / (m_width * m_depth), decay_per_step),
        output=group(base.output_rate, base.eps / m_width, decay_per_step),
        vector=group(base.vector_rate, base.eps / (m_width * m_depth), 0.0),
        residual_multiplier=base.residual_multiplier / m_depth,
        logit_multiplier=base.logit_multiplier / m_width,
    )
