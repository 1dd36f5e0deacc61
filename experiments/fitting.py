# SPDX-License-Identifier: Apache-2.0
"""Fits run on the CPU, also where accelerators train."""


def prepare_to_fit() -> None:
    """Asking JAX for the CPU later would still wake every accelerator.

    In this process alone: a variable would send the workers of the next stage to the CPU, too.
    """
    import jax

    jax.config.update("jax_platforms", "cpu")
