# SPDX-License-Identifier: Apache-2.0
"""The array of this package, and what the letters of shapes mean.

n runs or other rows of a table        F free coordinates of a fit      K groups of rows
R replicates or draws of a fit         P parameters of a law            T targets of a design
B budgets, or other points of C        S starts of a search             G points of a grid

In formulas N is parameters, D tokens, C FLOPs and L the loss. A size of 1 + R is an estimate
followed by its replicates.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
