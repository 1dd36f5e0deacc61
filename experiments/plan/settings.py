# SPDX-License-Identifier: Apache-2.0
"""The settings that a study's axes ask for: each a study of its own, with its data. No JAX."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.study.changes import changed
from experiments.study.study import Label, Study
from model.data.manifest import Manifest
from model.data.source import Source, source_to_dict

# What of a study may differ between the runs of one grid.
VARIED = ("recipe", "seq_len", "sizes", "data", "documents_apart")


class Setting(NamedTuple):
    """A value for each axis.

    Attributes:
      axes: what tables show of them.
      study: with these values.
    """

    axes: dict[str, Label]
    study: Study


def settings(study: Study) -> list[Setting]:
    """Every combination of the axes' values; of a study without axes the study itself.

    Raises:
      ValueError: one line, for a field that there is not, that may not vary, or a wrong value.
    """
    names = [axis.field for axis in study.axes]
    found = []
    for combination in itertools.product(*(axis.named.items() for axis in study.axes)):
        labels = [label for label, _ in combination]
        values = [value for _, value in combination]
        own = with_setting(study, dict(zip(names, values, strict=True)))
        found.append(Setting(dict(zip(names, labels, strict=True)), own))
    return found


def sources(study: Study) -> list[Source]:
    """The data of all settings, each once."""
    return list(dict.fromkeys(own.data for _, own in settings(study)))


def data_of(study: Study, manifest: Manifest) -> Manifest:
    """That of the study's own data: a manifest may have those of other settings, too."""
    return manifest.of(source_to_dict(study.data))


def compares_vocabularies(study: Study) -> bool:
    """Whether its runs have different tokenizers: then their losses are compared in bits per byte,
    as nats per token are of another unit for each."""
    return len({getattr(own.data, "tokenizer", None) for _, own in settings(study)}) > 1


def with_setting(study: Study, values: Mapping[str, Any]) -> Study:
    """The study with other values of these fields, and without axes; raises as ``settings``."""
    for field in values:
        if field.partition(".")[0] not in VARIED:
            raise ValueError(
                f"axis {field!r}: runs of one grid may differ in {', '.join(VARIED)} and what is "
                "below these, such as recipe.optimizer.learning_rate."
            )
    try:
        return changed(dataclasses.replace(study, axes=()), values.items())
    except (ValueError, TypeError) as error:
        raise ValueError(f"axis {error}") from None
