# SPDX-License-Identifier: Apache-2.0
"""A long short-term memory (Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735) with
forget gates (Gers et al. 2000, doi:10.1162/089976600300015015), as torch.nn.LSTM has it.
"""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from model.network.counts.lstm import LSTMConfig
from model.network.layers import State
from model.network.mixers.gated_units import GatedUnits


class LSTM(GatedUnits):
    """i, f, g, o = x W_input + h W_recurrent + bias; c' = sigmoid(f + forget_bias) c + sigmoid(i)
    tanh(g); h' = sigmoid(o) tanh(c'). The order of the gates is torch's.
    """

    holds = ("h", "c")

    def cell(self, gates: Float[Array, "B A H"], held: State) -> State:
        i, f, g, o = (gates[:, gate] for gate in range(4))
        forget = jax.nn.sigmoid(f + cast(LSTMConfig, self.config).forget_bias)
        c = forget * held["c"] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return {"h": jax.nn.sigmoid(o) * jnp.tanh(c), "c": c}
