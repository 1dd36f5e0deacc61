# SPDX-License-Identifier: Apache-2.0
"""Every approach fitted to the runs of a study, and kept; of several processes one fits."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping

import numpy as np

from experiments.files.hold import hold
from experiments.ledger.ledger import Ledger
from experiments.machine.jax_setup import prepare_to_fit
from experiments.machine.provenance import code_facts, package_facts
from experiments.report.fits import kept_fits
from experiments.report.fits.domains import LAW, by_domain
from experiments.report.fits.kept_fits import Fits
from scaling.answers.loss_forecast import choose_forecaster
from scaling.approaches.envelope.fit import fit_envelope
from scaling.approaches.isoflop.bias import with_bias
from scaling.approaches.isoflop.fit import fit_isoflop
from scaling.approaches.surface.fit import fit_surface
from scaling.fit import Fit, FitError
from scaling.solve.progress import heard_by
from scaling.tables.runs import CURVE_COLUMNS, Curves, Runs

SURFACES = ("additive", "curved")
APPROACHES = ("envelope", "isoflop", *SURFACES)


def fit_once(
    ledger: Ledger,
    fitted: str,
    runs: Runs,
    curves: Curves,
    apart: Mapping[str, Runs],
    tell: Callable[[str], None],
) -> Fits:
    """What is kept of the fits of these rows by this code, or what is fitted now, and kept.

    Args:
      fitted: their digest.
      apart: by name the runs of each setting, which has a law of its own.
    """
    if (kept := kept_fits.read(ledger, fitted)) is not None:
        return kept
    with hold(ledger.fits / ".lock", lambda: tell("another process fits; waiting for it")):
        made = kept_fits.read(ledger, fitted)
        if made is None:
            made = _fit(runs, curves, apart, tell)
            kept_fits.write(ledger, fitted, made)
    return made


def _fit(
    runs: Runs, curves: Curves, apart: Mapping[str, Runs], tell: Callable[[str], None]
) -> Fits:
    prepare_to_fit()
    fitters: dict[str, Callable[[], Fit]] = {
        "envelope": lambda: fit_envelope(runs, curves),
        "isoflop": lambda: fit_isoflop(runs),
        "additive": lambda: fit_surface(runs, "additive"),
        "curved": lambda: fit_surface(runs, "curved"),
    }
    fits: dict[str, Fit] = {}
    refusals: dict[str, str] = {}
    for i, name in enumerate(APPROACHES, 1):
        what = f"fitting {name}, {i} of {len(APPROACHES)}"
        tell(what)
        with heard_by(_prefixed(tell, f"{what}: ")):
            try:
                fits[name] = fitters[name]()
            except FitError as error:
                refusals[name] = str(error)
    if "isoflop" in fits and "additive" in fits:
        fits["isoflop"] = with_bias(fits["isoflop"], fits["additive"])
    domains: dict[str, Fit] = {}
    for name, own in by_domain(runs).items():
        tell(f"fitting {LAW} to the losses on {name}")
        try:
            domains[name] = fit_surface(own, LAW)
        except FitError as error:
            refusals[f"{LAW} on {name}"] = str(error)
    settings: dict[int, dict[str, Fit]] = {}
    for i, (name, own) in enumerate(apart.items()):
        tell(f"fitting {' and '.join(SURFACES)} to the runs of {name}, {i + 1} of {len(apart)}")
        try:
            settings[i] = _surfaces(own)
        except FitError as error:
            refusals[f"{LAW} of {name}"] = str(error)
    return Fits(fits=fits, refusals=refusals, domains=domains, settings=_of_one_law(settings))


def _surfaces(runs: Runs) -> dict[str, Fit]:
    """By law; raises FitError where the additive one cannot be fitted."""
    found = {LAW: fit_surface(runs, LAW)}
    with contextlib.suppress(FitError):
        found["curved"] = fit_surface(runs, "curved")
    return found


def _of_one_law(settings: Mapping[int, Mapping[str, Fit]]) -> dict[int, Fit]:
    """The curved law of every setting if the runs of any need it, else the additive one.

    What a setting is worth is read where its frontier has the loss of the first one: two forms, or
    one that the runs are not of, would differ there for reasons of their own. Within the runs a law
    without E will do; a curved one that is not certified will not.
    """
    chosen = [
        choose_forecaster([*found.values()], is_known=lambda fit: fit.is_certified).law
        for found in settings.values()
    ]
    law = "curved" if "curved" in chosen else LAW
    return {
        i: found[law] if law in found and found[law].is_certified else found[LAW]
        for i, found in settings.items()
    }


def _prefixed(tell: Callable[[str], None], words: str) -> Callable[[str], None]:
    return lambda said: tell(words + said)


def digest(curves: Curves, *tables: Runs) -> str:
    """Of all that a fit depends on: the rows, the curves of these runs, and the code."""
    plain = []
    for runs in tables:
        is_mine = np.isin(curves.run_id, runs.run_id)
        about = {
            **{f.name: getattr(runs, f.name) for f in dataclasses.fields(runs)},
            **{f"curves {name}": getattr(curves, name)[is_mine] for name in CURVE_COLUMNS},
            **runs.extra,
            "extra": list(runs.extra),
        }
        plain.append({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in about.items()})
    code = code_facts() | package_facts() | {"scipy": importlib.metadata.version("scipy")}
    return hashlib.sha256(repr([code, plain]).encode()).hexdigest()
