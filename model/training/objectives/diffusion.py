# SPDX-License-Identifier: Apache-2.0
"""Absorbing discrete diffusion: a bound on the nats of a window (MDLM, Sahoo et al. 2024,
arXiv:2406.07524).

At time t in [0, 1] each of T tokens is hidden with probability t. Their NELBO is the integral over
t of E [ sum over hidden tokens of -log p(token | what is not hidden) ] / t. With t integrated out
all sets of k hidden tokens together weigh 1/k, and so it is exactly

  T E_k [ mean over hidden tokens of -log p ],  k uniform on 1 to T, all sets of k tokens alike,

the bound of models of any order (Uria et al. 2014, arXiv:1310.1757; Hoogeboom et al. 2021,
arXiv:2110.02037). The schedule of the noise does not matter, and SEDD's loss of absorbing noise is
the same number (Lou et al. 2023, arXiv:2310.16834; Ou et al. 2024, arXiv:2406.03736). The network
is not told t: the number of masks says as much.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from model.training.objectives.kinds import KINDS
from model.training.objectives.masked import Masked
from model.training.objectives.objective import Measured

GOLDEN = 2654435769
"""2^32 over the golden ratio: its multiples modulo 2^32 are spread evenly, however many."""


class Diffusion(Masked):
    """Each window has a number of hidden tokens of its own, from 1 to T; the loss is the mean over
    windows of the mean nats of a hidden token, which bounds the nats of a token from above.

    The numbers of a batch are spread evenly over 1 to T, from a random start (Kingma et al. 2021,
    arXiv:2107.00630, app. I.1), and so are those of the validation windows, which are fixed.
    """

    kind = KINDS["diffusion"]

    def n_to_train(
        self,
        key: Key[Array, ""],
        n_rows: int,
        length: int,
        hyper: Mapping[str, Shaped[Array, ""]],
    ) -> Int[Array, " B"]:
        start = jax.random.uniform(key)
        return _number((start + jnp.arange(n_rows) / n_rows) % 1.0, length)

    def n_to_evaluate(self, numbers: Int[Array, " B"], length: int) -> Int[Array, " B"]:
        spread = numbers.astype(jnp.uint32) * jnp.uint32(GOLDEN)
        return _number(spread.astype(jnp.float32) / 2.0**32, length)

    def measured(self, nats: Float[Array, "B T"], is_hidden: Bool[Array, "B T"]) -> Measured:
        share = jnp.mean(is_hidden, axis=1, keepdims=True)
        return Measured(nats / share, jnp.ones_like(is_hidden))


OBJECTIVE = Diffusion()


def _number(share: Float[Array, " B"], length: int) -> Int[Array, " B"]:
    """A number from 1 to T, uniform where the share is uniform on [0, 1)."""
    return 1 + jnp.minimum((share * length).astype(jnp.int32), length - 1)
