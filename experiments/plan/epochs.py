# SPDX-License-Identifier: Apache-2.0
"""How often a run passes over its training tokens, and how often it may. No JAX."""

from typing import NamedTuple

from experiments.study.study import Study
from model.data.manifest import Manifest
from model.data.source import Mixture


class Passes(NamedTuple):
    """Over the training tokens of the data or, of a mixture, of one part.

    Attributes:
      name: of the part; "" of data without parts.
      n_tokens: trained on.
      n_unique: different ones among them, at most.
      most: passes that are allowed.
    """

    name: str
    n_tokens: float
    n_unique: int
    most: float

    @property
    def epochs(self) -> float:
        return self.n_tokens / self.n_unique


def passes(study: Study, manifest: Manifest, n_tokens: int) -> list[Passes]:
    """Of every part that has an end.

    Args:
      manifest: of the study's own data.
    """
    if not isinstance(study.data, Mixture):
        n_unique = manifest.n_train_tokens
        return [] if n_unique is None else [Passes("", n_tokens, n_unique, study.max_epochs)]
    found = []
    pairs = zip(study.data.parts, study.data.shares, manifest.parts, strict=True)
    for part, share, one in pairs:
        if (n_unique := part.unique_tokens or one.n_train_tokens) is not None:
            most = study.max_epochs if part.max_epochs is None else part.max_epochs
            found.append(Passes(part.name, share * n_tokens, n_unique, most))
    return found
