# SPDX-License-Identifier: Apache-2.0
"""Laws of the loss on one domain, over the proportions of M domains that a network is trained on.

The proportions of a row sum to 1. `data_mixing:5` is the law of five domains.
"""

from functools import lru_cache
from typing import Any

from scaling.laws.law import Law, Parameter, amplitude, exponent


def _columns(n_domains: int) -> tuple[str, ...]:
    return tuple(f"proportion_domain_{i}" for i in range(1, n_domains + 1))


@lru_cache(maxsize=32)
def data_mixing(n_domains: int) -> Law:
    """The exponential law; its amplitude is 1, as the proportions sum to 1."""
    columns = _columns(n_domains)

    def value(xp: Any, p: Any, x: Any) -> Any:
        return p[0] + xp.exp(sum(p[i] * x[name] for i, name in enumerate(columns, 1)))

    def slope(i: int) -> Parameter:
        return Parameter(name=f"t{i}", is_positive=False, lower=-40.0, upper=40.0, start=(-2, 2))

    return Law(
        name=f"data_mixing:{n_domains}",
        formula="L = c + exp(sum_i t_i r_i), r_i = proportion_domain_i",
        source="Ye et al. 2024 (data mixing laws), eq. 1 of M domains, k absorbed by the t_i",
        columns=columns,
        parameters=(amplitude("c", lower=1e-6), *(slope(i) for i in range(1, n_domains + 1))),
        value=value,
        score="ScaleBench domain_mixture: R2 0.99 of rows held out",
    )


@lru_cache(maxsize=32)
def effective_mixing(n_domains: int) -> Law:
    """A power law of the amount of text that serves the domain."""
    columns = _columns(n_domains)

    def value(xp: Any, p: Any, x: Any) -> Any:
        served = sum(p[i] * x[name] for i, name in enumerate(columns, 2))
        return p[0] + xp.exp(-p[1] * xp.log(served))

    return Law(
        name=f"effective_mixing:{n_domains}",
        formula="L = c + (sum_i k_i r_i)^-gamma, r_i = proportion_domain_i",
        source="ours: text of another domain is worth k_i of its own, and losses fall as powers",
        columns=columns,
        parameters=(
            amplitude("c", lower=1e-6),
            exponent("gamma", lower=1e-2),
            *(
                Parameter(name=f"k{i}", is_positive=True, lower=1e-9, upper=1e12, start=(1e-3, 1e2))
                for i in range(1, n_domains + 1)
            ),
        ),
        value=value,
        score="ScaleBench domain_mixture: R2 1.00 of rows held out",
    )


MIXTURE_LAWS = {"data_mixing": data_mixing, "effective_mixing": effective_mixing}
