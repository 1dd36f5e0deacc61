# SPDX-License-Identifier: Apache-2.0
"""What the outside may ask of a training run between two dispatches. No JAX."""

import enum


class Order(enum.IntEnum):
    """Asked for before each dispatch."""

    GO = 0
    SAVE_AND_STOP = 1
    STOP = 2


class Interrupted(Exception):
    """A run stopped because it was ordered to.

    Attributes:
      step: up to which it had trained.
      is_saved: whether a checkpoint of that step was written.
    """

    def __init__(self, step: int, *, is_saved: bool):
        super().__init__(f"stopped at step {step}")
        self.step, self.is_saved = step, is_saved
