# SPDX-License-Identifier: Apache-2.0
"""How much of a grid may be missing from a fit before somebody has to say that this is meant."""

import argparse
import math
from collections.abc import Mapping

# What is missing is seldom missing at random: runs that diverge are the large or the fast ones.
ALLOWED = 0.1
_SHOWN = 10


class TooManyMissing(ValueError):
    """More of the planned runs are missing than was allowed."""


def add_option(parser: argparse.ArgumentParser) -> None:
    """``--allow-missing FRACTION``."""
    parser.add_argument(
        "--allow-missing",
        type=_fraction,
        default=ALLOWED,
        metavar="FRACTION",
        help="fit although so many runs diverged, failed or are not trained",
    )


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no fraction: give 0 to 1, such as 0.3")
    return value


def require_enough(missing: Mapping[str, str], n: int, allowed: float, way_out: str) -> None:
    """Refuses to fit what is too incomplete.

    Args:
      missing: run id -> why it cannot be fitted.
      n: runs that were asked for.
      allowed: fraction of them that may be missing.
      way_out: what to do about it, a sentence; the flag is named after it.

    Raises:
      TooManyMissing: one line with the counts, the first ids, and the way out.
    """
    if len(missing) / max(n, 1) <= allowed:
        return
    share = math.ceil(100 * len(missing) / n) / 100
    raise TooManyMissing(
        f"{len(missing)} of {n} runs are missing, more than the {allowed:.0%} allowed: "
        f"{listed(missing, _SHOWN)}. {way_out} --allow-missing {share:g} fits without them."
    )


def listed(missing: Mapping[str, str], most: int) -> str:
    """Ids with their reasons: "a1 (diverged), b2 (not trained) and 3 more"."""
    names = ", ".join(f"{run_id} ({why})" for run_id, why in list(missing.items())[:most])
    return f"{names} and {len(missing) - most} more" if len(missing) > most else names
