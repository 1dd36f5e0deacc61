# SPDX-License-Identifier: Apache-2.0
"""Whether the weights that results name are there and whole. A result stands without them."""

from collections.abc import Iterator

from experiments.files.checked_json import intact
from experiments.ledger.ledger import Ledger, weights_key
from experiments.operations.verify import Finding

_AGAIN = "The result stands; move it away, and `isoflop run` trains the run again."


def check_weights(ledger: Ledger) -> Iterator[Finding]:
    """Weights that are damaged, gone, or of no result; raises OtherVersion."""
    for run_id in ledger.storage.names("runs"):
        result = intact(ledger.read_result, run_id)
        if result is None:
            continue  # Named already; or not there yet: weights are written first.
        key = weights_key(run_id)
        try:
            found = ledger.storage.sha256(key) or ""
        except OSError as error:
            yield Finding(key=key, what=f"cannot be read: {error.strerror}", way_out=_AGAIN)
            continue
        if found == result.weights_sha256:
            continue
        if not found:
            yield Finding(key=key, what="is gone", way_out=_AGAIN, is_damage=False)
        elif result.weights_sha256:
            yield Finding(key=key, what="is not what was written", way_out=f"Delete it. {_AGAIN}")
        else:
            what = "is named by no result"
            yield Finding(key=key, what=what, way_out="Delete it.", is_damage=False)
