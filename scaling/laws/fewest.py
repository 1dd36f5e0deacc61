# SPDX-License-Identifier: Apache-2.0
"""How few runs an approach can be fitted to. Standard library only: plans are checked by it."""

# Of one budget, sizes and runs: a parabola has three parameters and must be able to show a misfit.
PARABOLA_SIZES, PARABOLA_RUNS = 4, 5
PARABOLA_BUDGETS = 2
# A power law with an offset has three parameters, and a misfit of its own.
JUDGED_BUDGETS = 4
# Sizes on the envelope; the smallest and the largest that are trained are never on it.
ENVELOPE_SIZES = 4
CERTIFIED_ENVELOPE_SIZES = ENVELOPE_SIZES + 2
# More different (N, D) than a surface has free parameters.
SPARE_CONFIGURATIONS = 2
SURFACE_PARAMETERS = {"additive": 5, "curved": 6}
