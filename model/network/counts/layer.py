# SPDX-License-Identifier: Apache-2.0
"""What an architecture says of itself without JAX: its sizes, and one table of its weights.

From that table follow parameters, FLOPs, roles, initialisation, sharding and what a mesh must
divide, Muon's matrices, and the traffic between devices: nothing is listed a second time.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

if TYPE_CHECKING:
    from model.network.config import ModelConfig
    from model.network.execution import Execution

Role = Literal["input", "hidden", "output", "vector", "final_norm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """One array of parameters, initially ~ N(0, std^2), or ``mean`` where std is 0.

    Attributes:
      axes: a letter for each dimension (network/layers.py); which mesh axes split it the
        layout says.
      shape: sizes of the dimensions.
      role: which constants of the optimiser it has (training/optimizers/parameterization.py).
      mean, std: of the initial values; a tuple: one mean for each element, in order.
      n_lead: the first so many dimensions number matrices: experts, gates, taps.
      n_in: of each matrix the next so many are its inputs, which a product contracts, and those
        behind them its outputs; 0 for gains and biases.
      share: of it that touches one token of the blocks it is in; below 1 where tokens choose
        experts; of a memory, its tokens for each of these.
    """

    axes: str
    shape: tuple[int, ...]
    role: Role
    mean: float | tuple[float, ...] = 0.0
    std: float = 0.0
    n_lead: int = 0
    n_in: int = 0
    share: Fraction = Fraction(1)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def active(self) -> Fraction:
        """Weights that touch one token."""
        return self.size * self.share

    @property
    def is_vector(self) -> bool:
        """A gain, a bias or the taps of single channels: small, used everywhere, in no product."""
        return self.n_in == 0

    @property
    def input_axes(self) -> str:
        return self.axes[self.n_lead : self.n_lead + self.n_in]


def matrix(
    axes: str,
    shape: tuple[int, ...],
    gain: float,
    *,
    n_in: int = 1,
    n_lead: int = 0,
    share: Fraction = Fraction(1),
    n_added: int = 1,
) -> Weight:
    """A hidden matrix ~ N(0, gain^2 / fan_in).

    Args:
      n_added: matrices whose products are added up, such as the taps of a convolution: together
        they are one map of so many times the inputs.
    """
    fan_in = n_added * math.prod(shape[n_lead : n_lead + n_in])
    std = gain / math.sqrt(fan_in)
    return Weight(
        axes=axes, shape=shape, role="hidden", std=std, n_lead=n_lead, n_in=n_in, share=share
    )


def rounded_width(ratio: float, multiple: int, d_model: int) -> int:
    """ratio d_model, rounded to a multiple, one at least."""
    return max(1, math.floor(ratio * d_model / multiple + 0.5)) * multiple


def vector(
    axes: str, shape: tuple[int, ...], value: float | tuple[float, ...], role: Role = "vector"
) -> Weight:
    """A gain or bias; of many values, one for each element, in order."""
    return Weight(axes=axes, shape=shape, role=role, mean=value)


def norm_weights(net: "ModelConfig", role: Role = "vector") -> dict[str, Weight]:
    """Gain, and LayerNorm's bias, of a norm of the stream."""
    shape = (net.d_model,)
    weights = {"gain": vector("d", shape, 1.0, role)}
    if net.norm == "layernorm" and net.use_bias:
        weights["bias"] = vector("d", shape, 0.0, role)
    return weights


def refuse_split_positions(execution: "Execution", why: str) -> None:
    """Raises ValueError where the layout splits positions."""
    if execution.layout == "fsdp_context":
        raise ValueError(
            f"layout='fsdp_context' splits positions, {why}. Say layout='fsdp_tensor'."
        )


class LayerConfig(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="kind",
):
    """The sizes of one mixer or channel mixer, tagged by its kind.

    A field that is added later has a default, with the meaning of before: where it has that value
    it is not written, and the ids of points do not change.
    """

    implementation: ClassVar[str]
    """Its class: "module:name"; the module brings JAX."""

    says: ClassVar[tuple[str, ...]] = ()
    """Names of what it has to say beside its output: scalars, summed over all layers."""

    sees_ahead: ClassVar[bool] = False
    """Whether it sees what is behind a position, whatever the context."""

    reads_source: ClassVar[bool] = False
    """Whether it reads what an encoder makes of the source."""

    def weights(self, net: "ModelConfig") -> dict[str, Weight]:
        """By name of the array, in the order in which they are initialised."""
        raise NotImplementedError

    def context_flops(self, net: "ModelConfig", *, is_causal: bool) -> int:
        """Forward FLOPs per token of products that multiply no weight, and which 6N misses.

        Args:
          is_causal: whether pairs of positions that a causal mask hides are left out.
        """
        return 0

    def activation_width(self, net: "ModelConfig") -> int:
        """Numbers per token that its products take in and give out."""
        raise NotImplementedError

    def scores_per_token(self, net: "ModelConfig") -> int:
        """Numbers per token of a matrix over pairs of positions, where it is stored at all."""
        return 0

    def exchanged_width(self, net: "ModelConfig") -> int:
        """Numbers per token that it exchanges where positions are split over devices."""
        return 0

    def loss_weights(self) -> dict[str, float]:
        """Of what it ``says``: the weights in the training loss; the rest is recorded only."""
        return {}

    @property
    def sees_both_sides(self) -> bool:
        """Whether it hides nothing from any position where the context is not causal."""
        return False

    def is_local(self, execution: "Execution") -> bool:
        """Whether each device computes its own part of it by itself (a ``shard_map``)."""
        return False

    def check(self, net: "ModelConfig", execution: "Execution") -> None:
        """Raises ValueError if it cannot be computed so."""

    def columns(self) -> dict[str, int | float | str]:
        """What tables of runs show of it."""
        return {}

    @property
    def kind(self) -> str:
        return str(type(self).__struct_config__.tag)
