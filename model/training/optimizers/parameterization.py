# SPDX-License-Identifier: Apache-2.0
"""Transfer of learning rates, decay and initialisation across width and depth. No JAX.

"completep": Dey et al. 2025, arXiv:2505.01618, table 1, with alpha = 1, which extends muP (Yang et
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

A vector is a gain or bias of a block; of the norm before the head, which is in no branch, they have
the eps of the output.

Rate times decay, the timescale over which AdamW forgets (Wang & Aitchison 2024, arXiv:2405.13698),
is then the same at every width.

Hidden matrices under Muon differ in two rows. A layer's output moves equally far at every width if
the update's spectral norm is in proportion to sqrt(fan_out / fan_in) (Yang et al. 2023,
arXiv:2310.17813, condition 1). Muon's scale "spectral" is that norm; the norm of its scale "rms"
grows as sqrt(m_N). Its eps is compared with the gradient's Frobenius norm, which is the same at
every width and falls as 1 / m_L.

  =====================  =========================  ==========================
  quantity               hidden, scale "spectral"   hidden, scale "rms"
  =====================  =========================  ==========================
  learning rate          base                       base / sqrt(m_N)
  weight decay           base                       base x sqrt(m_N)
  Muon eps               base / m_L                 base / m_L
  =====================  =========================  ==========================

"standard", the usual practice and muP's point of comparison (Yang et al. 2022, table 3): rates,
decay, eps and multipliers are base at every width and depth, for Muon too; initial variance is
1 / fan_in in hidden matrices and in an untied head (so base / m_N), base in embeddings. With a tied
head the initial logits then grow as sqrt(m_N), as GPT-2's do.
"""

import math
from dataclasses import dataclass
from typing import Literal

from model.field_checks import check_real, check_whole
from model.training.config import GroupConfig

Parameterization = Literal["completep", "standard"]
PARAMETERIZATIONS: tuple[Parameterization, ...] = ("completep", "standard")


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseConstants:
    """Constants tuned at the base shape.

    Attributes:
      d_model, n_layers: the base shape.
      hidden_rate, input_rate, output_rate, vector_rate: peak learning rates by role.
      eps: AdamW's epsilon, and Muon's.
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
    """What the tables give for one width and depth.

    Attributes:
      input, hidden, output, vector, final_norm: constants by role.
      residual_multiplier, logit_multiplier: see ModelConfig.
      output_init_factor: on the initial standard deviation of an untied head.
    """

    input: GroupConfig
    hidden: GroupConfig
    output: GroupConfig
    vector: GroupConfig
    final_norm: GroupConfig
    residual_multiplier: float
    logit_multiplier: float
    output_init_factor: float


def transfer(
    base: BaseConstants,
    *,
    d_model: int,
    n_layers: int,
    decay_per_step: float,
    parameterization: Parameterization,
    muon_scale: Literal["spectral", "rms"] | None,
) -> Transferred:
    """Constants of this width and depth from those of the base shape, by the tables above.

    Args:
      base: constants at the base shape.
      d_model, n_layers: the shape asked for.
      decay_per_step: rate x weight decay at the peak rate, the fraction by which hidden and input
        weights shrink per step; gains and biases are not decayed.
      parameterization: which table.
      muon_scale: scale of Muon's updates of hidden matrices; None means AdamW.
    """
    wide, deep = d_model / base.d_model, n_layers / base.n_layers
    is_standard = parameterization == "standard"
    m_width, m_depth = (1.0, 1.0) if is_standard else (wide, deep)
    hidden_norm, hidden_eps = {
        None: (m_width, base.eps / (m_width * m_depth)),
        "spectral": (1.0, base.eps / m_depth),
        "rms": (math.sqrt(m_width), base.eps / m_depth),
    }[muon_scale]

    def group(rate: float, eps: float, decay: float) -> GroupConfig:
        return GroupConfig(learning_rate=rate, weight_decay=decay / rate, eps=eps)

    return Transferred(
        input=group(base.input_rate, base.eps / m_width, decay_per_step),
        hidden=group(base.hidden_rate / hidden_norm, hidden_eps, decay_per_step),
        output=group(base.output_rate, base.eps / m_width, decay_per_step),
        vector=group(base.vector_rate, base.eps / (m_width * m_depth), 0.0),
        final_norm=group(base.vector_rate, base.eps / m_width, 0.0),
        residual_multiplier=base.residual_multiplier / m_depth,
        logit_multiplier=base.logit_multiplier / m_width,
        output_init_factor=1 / math.sqrt(wide) if is_standard else 1.0,
    )
