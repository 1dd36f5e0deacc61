# SPDX-License-Identifier: Apache-2.0
"""The array of this package, and what the letters of shapes mean.

n runs or other rows of a table        F free coordinates of a fit      K groups of rows, sizes
R replicates or draws of a fit         P parameters of a law            T targets of a design
B budgets, or other values of C        S starts, or rows of a batch     G points of a grid
M distinct minima                      k ratios of variances

`draws` is 1 + R: an estimate followed by its replicates. `shape` and `rows` stand for any axes. In
formulas N is parameters, D tokens, C FLOPs and L the loss.
"""

import numpy as np

Array = np.ndarray
