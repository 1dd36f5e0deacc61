# SPDX-License-Identifier: Apache-2.0
"""fits/: the fits of a study, and of which rows, so that the same ones are not fitted again."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from experiments.files import checked_json
from experiments.files.checked_json import intact
from experiments.files.storage import replace_text
from experiments.ledger.ledger import Ledger
from scaling.fit import Fit

_KEY = "fits/made.json"
_DOMAIN, _SETTING = "domain_", "setting_"


@dataclass(frozen=True, kw_only=True)
class Fits:
    """What the approaches gave.

    Attributes:
      fits: by name of the approach.
      refusals: by name, the sentence of those that gave none.
      domains: by name of a domain, the law that is fitted to its losses.
      settings: by number of a setting (settings_apart.py), the law that is fitted to its runs.
    """

    fits: Mapping[str, Fit]
    refusals: Mapping[str, str]
    domains: Mapping[str, Fit] = field(default_factory=dict)
    settings: Mapping[int, Fit] = field(default_factory=dict)


class _Made(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``of``: digest of what was fitted; ``files``: name of a fit -> digest of its file."""

    of: str
    files: dict[str, str]
    refusals: dict[str, str]


def write(ledger: Ledger, of: str, made: Fits) -> None:
    """Keeps fits; ``of``: digest of what was fitted, and by which code."""
    fits = {
        **made.fits,
        **{_DOMAIN + name: fit for name, fit in made.domains.items()},
        **{f"{_SETTING}{number}": fit for number, fit in made.settings.items()},
    }
    texts = {name: fit.to_json() for name, fit in fits.items()}
    for name, text in texts.items():
        replace_text(ledger.fits / f"{name}.json", text)
    files = {name: _digest(text.encode()) for name, text in texts.items()}
    record = _Made(of=of, files=files, refusals=dict(made.refusals))
    ledger.storage.replace(_KEY, checked_json.encode(record))


def read(ledger: Ledger, of: str) -> Fits | None:
    """The fits that were kept; None where they are of something else, gone or damaged."""
    record = intact(lambda: checked_json.read(ledger.storage, _KEY, _Made, way_out=""))
    if record is None or record.of != of:
        return None
    fits = {}
    for name, digest in record.files.items():
        data = ledger.storage.read(f"fits/{name}.json") or b""
        if _digest(data) != digest:
            return None
        fits[name] = Fit.from_json(data.decode())
    domains, settings = (_taken(fits, prefix) for prefix in (_DOMAIN, _SETTING))
    return Fits(
        fits=fits,
        refusals=record.refusals,
        domains=domains,
        settings={int(number): fit for number, fit in settings.items()},
    )


def _taken(fits: dict[str, Fit], prefix: str) -> dict[str, Fit]:
    """Those whose names begin so, without it; they are no longer among the others."""
    mine = [name for name in fits if name.startswith(prefix)]
    return {name.removeprefix(prefix): fits.pop(name) for name in mine}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
