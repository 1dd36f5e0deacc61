# SPDX-License-Identifier: Apache-2.0
"""plan(study, manifest) -> Plan: the grid of a study. No JAX, no disk, no clock."""

import itertools
import math
from dataclasses import dataclass

from experiments.plan.from_recipe import Refused
from experiments.plan.point import Point
from experiments.plan.resolve import resolve
from experiments.plan.settings import data_of, settings
from experiments.plan.trunks import check_trunks
from experiments.plan.widths import Refusal, widths
from experiments.study.study import Study
from model.data.manifest import Manifest
from model.data.source import IMAGE_KINDS, Pairs, check_images
from model.training.objectives.kinds import KINDS
from scaling.tables.units import power


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The points of a study, by budget, size, axes, seed; and what is not trained.

    Attributes:
      refused: widths that cannot be trained as asked, and those of a ladder that are out of the
        range of tokens per parameter.
    """

    points: tuple[Point, ...]
    refused: tuple[Refusal, ...]

    @property
    def left_out(self) -> list[str]:
        """A line for each budget and way out; widths that some settings have are told apart."""
        trained = {(point.budget, point.spec.model.d_model) for point in self.points}
        alike: dict[tuple[float, bool, str], list[Refusal]] = {}
        for one in self.refused:
            way_out = one.reason.rpartition(". ")[2]
            key = (one.budget, (one.budget, one.d_model) in trained, way_out)
            alike.setdefault(key, []).append(one)
        lines = []
        for (budget, by_some, way_out), refusals in alike.items():
            d_models = ", ".join(map(str, sorted({one.d_model for one in refusals})))
            why = [one.reason.removesuffix(way_out).removesuffix(". ") for one in refusals]
            reasons = "; ".join(filter(None, dict.fromkeys(why)))
            lines.append(
                f"left out at {power(budget)} FLOPs{' by some settings' * by_some}: d_model "
                f"{d_models}: {reasons}{'. ' * bool(reasons)}{way_out}"
            )
        return lines


def plan(study: Study, manifest: Manifest) -> Plan:
    """Resolves a study: same study and manifest, same bytes.

    Raises:
      ValueError: if nothing remains at some budget, two points are the same run, or trunks are
        asked for where runs of a size have none in common.
    """
    chosen = settings(study)
    for _, own in chosen:
        _check_data(own, data_of(own, manifest))
    _check_vocabularies(study, [data_of(own, manifest) for _, own in chosen])
    _check_units([own for _, own in chosen])
    points: list[Point] = []
    outside: list[Refusal] = []
    refused: list[Refusal] = []
    for budget, seeds in zip(study.budgets, study.seeds_per_budget, strict=True):
        before = len(points)
        by_setting, others = zip(*(widths(own, manifest, budget) for _, own in chosen), strict=True)
        outside += itertools.chain(*others)
        for d_model in sorted({*itertools.chain(*by_setting)}):
            for (axes, own), legal in zip(chosen, by_setting, strict=True):
                if d_model not in legal:
                    continue
                try:
                    points += [
                        resolve(
                            own,
                            manifest,
                            budget=budget,
                            d_model=d_model,
                            seed=seed,
                            data_seed=data_seed,
                            axes=axes,
                        )
                        for seed in seeds
                        for data_seed in study.data_seeds or (seed,)
                    ]
                except Refused as error:
                    refused.append(Refusal(budget=budget, d_model=d_model, reason=str(error)))
        if len(points) == before:
            raise ValueError(_nothing_left(study, budget, refused, outside))
    _check_distinct(points)
    if study.trunks:
        check_trunks(points)
    return Plan(points=tuple(points), refused=tuple(dict.fromkeys([*outside, *refused])))


def _check_data(study: Study, manifest: Manifest) -> None:
    check_images(manifest, study.seq_len)
    if (patches := study.recipe.shape.patches) is not None:
        told = {name: getattr(study.data, name, None) for name in ("labelled", "levels")}
        if told != {"labelled": True, "levels": patches.levels}:
            raise ValueError(
                f"shape.patches of images with classes and {patches.levels} levels: source "
                f"{manifest.kind!r} has labelled={told['labelled']}, levels={told['levels']}. Say "
                "labelled=True of images, and patches of as many levels."
            )
    if study.seq_len % manifest.window_multiple:
        raise ValueError(
            f"seq_len={study.seq_len}: this source needs a multiple of {manifest.window_multiple} "
            "(windows hold whole records)."
        )
    if isinstance(study.data, Pairs):
        n_source = 1 + study.data.n_source_words(study.seq_len)
        encoder = study.recipe.shape.encoder
        if encoder is not None and encoder.source_share * study.seq_len != n_source:
            raise ValueError(
                f"recipe.shape.encoder.source_share={encoder.source_share:g}: of source 'pairs' "
                "half of each window is the source. Say 0.5."
            )
    for one in manifest.parts or (manifest,):  # Each part is validated on as much.
        _check_validation(study, one, max(len(manifest.parts), 1))


def _check_vocabularies(study: Study, manifests: list[Manifest]) -> None:
    """Of settings that are compared."""
    vocabularies = {(one.vocab_size, str(one.tokenizer)) for one in manifests}
    if len(vocabularies) > 1 and not study.evaluation.is_by_document:
        raise ValueError(
            f"axes give {len(vocabularies)} vocabularies, and nats per token are of another unit "
            "for each: only bits per byte of the same text compare. Give evaluation.n_bytes and "
            "curve_bytes, not n_tokens: documents are then scored whole."
        )


def _check_units(studies: list[Study]) -> None:
    """Of settings that are compared."""
    units = sorted({KINDS[own.recipe.objective].unit for own in studies})
    if len(units) > 1:
        raise ValueError(
            f"axes give losses of {len(units)} units, nats per {' and nats per '.join(units)}: "
            "they do not compare. Ask for one of them in each study."
        )


def _check_validation(study: Study, manifest: Manifest, n_parts: int) -> None:
    """Whether data have what the evaluation asks of them; of a part of several, its share."""
    evaluation, source = study.evaluation, repr(manifest.kind)
    each = f", of which {source} is asked for one in {n_parts}" * (n_parts > 1)
    way_out = "Ask for fewer, or hold out more (validation_fraction, validation_paths of the data)."
    if evaluation.n_bytes is not None:
        available = manifest.n_validation_bytes
        if available is None:
            raise ValueError(f"evaluation.n_bytes={evaluation.n_bytes}: {manifest.why_no_bytes}")
        if evaluation.n_bytes > n_parts * available:
            raise ValueError(
                f"evaluation.n_bytes={evaluation.n_bytes}{each}: the validation documents have "
                f"{available} bytes, their ends counted. {way_out}"
            )
        return
    available, (n_tokens, _) = manifest.n_validation_tokens, evaluation.sizes
    n_windows = math.ceil(n_tokens / study.seq_len)
    if manifest.kind in IMAGE_KINDS:
        if available is not None and n_windows > available // study.seq_len:
            raise ValueError(
                f"evaluation.n_tokens={n_tokens} pixels are {n_windows} images: the validation "
                f"split has {available // study.seq_len}. {way_out}"
            )
        return
    most = math.inf if available is None else n_parts * ((available - 1) // study.seq_len)
    if n_windows > most:
        raise ValueError(
            f"evaluation.n_tokens={n_tokens} are {n_windows} windows of {study.seq_len} tokens"
            f"{each}: the validation split has {available} tokens, enough for n_tokens="
            f"{most * study.seq_len}. {way_out}"
        )


def _nothing_left(
    study: Study, budget: float, refused: list[Refusal], outside: list[Refusal]
) -> str:
    reasons = [refusal.reason for refusal in refused if refusal.budget == budget]
    if reasons:
        return f"budget {power(budget)}: no size can be trained. {reasons[0]}"
    low, high = study.sizes.tokens_per_param
    found = {refusal.reason.split()[0] for refusal in outside if refusal.budget == budget}
    ways_out = {
        "fewer": "all have fewer: ask for a larger budget, add smaller sizes",
        "more": "all have more: ask for a smaller budget, add larger sizes",
    }
    way_out = ways_out.get(" ".join(found), "add sizes in between")
    return (
        f"budget {power(budget)}: no size of the ladder has {low:g} to {high:g} tokens per "
        f"parameter; {way_out}, or widen sizes.tokens_per_param."
    )


def _check_distinct(points: list[Point]) -> None:
    seen: dict[str, Point] = {}
    for point in points:
        if point.id in seen:
            raise ValueError(
                f"budgets {power(seen[point.id].budget, 4)} and {power(point.budget, 4)} resolve "
                f"to the same run at d_model {point.spec.model.d_model}. Space the "
                "budgets wider, or name each axis value once."
            )
        seen[point.id] = point
