# SPDX-License-Identifier: Apache-2.0
"""Which rounds of a loop ended within a time, trunks among them."""

import pytest

from experiments.benchmarks.saving_half import rounds_within
from experiments.jobs import arrange
from experiments.ledger import Ledger
from experiments.plan import plan
from experiments.sealed import seal_record
from experiments.until import FILE


@pytest.fixture
def ledger(branched, manifest, tmp_path, record):
    """Three rounds; every branch takes a second, every trunk ten."""
    ledger, points = Ledger(tmp_path / "results", "mine"), list(plan(branched, manifest).points)
    first = sorted({point.cluster_id for point in points})[0]
    own = [point for point in points if point.cluster_id == first]
    own.sort(key=lambda point: point.n_tokens)
    other = next(point for point in points if point.cluster_id != first)
    pieces = arrange([*own, other], (1, 1, 1, 1), trunks=True, keeps_trunks=True)
    ledger.write_plan("{}", points, [piece.job for piece in pieces])
    trunks = [piece for piece in pieces if piece.job.kind == "trunk"]
    for piece in trunks:
        made = {"clusters": [piece.points[0].cluster_id], "step": piece.job.steps[1]}
        made |= {"flops_spent": {"matmul_full": 1e9}, "reasons": [""]}
        ledger.write_trunk(piece.job.id, record(2.0) | made)
    rounds = [[own[0].id], [own[1].id], [other.id, own[2].id]]
    ledger.storage.replace(FILE, seal_record({"rounds": rounds}))
    rows = [f"{p.id},1.0" for p in points] + [f"{piece.job.id},10.0" for piece in trunks]
    ledger.costs.write_text("\n".join(["run_id,device_seconds", *rows]) + "\n")
    return ledger, rounds, len(trunks)


def test_a_trunk_is_paid_by_the_first_round_that_begins_behind_it(ledger):
    ledger, rounds, n_trunks = ledger
    assert n_trunks == 4  # Three segments of one tree, and that of the other size.
    assert rounds_within(ledger, 1e9) == (
        [*rounds[0], *rounds[1], *rounds[2]],
        4 * 1.0 + n_trunks * 10.0,
    )
    assert rounds_within(ledger, 22.0) == (rounds[0] + rounds[1], 22.0)
    assert rounds_within(ledger, 21.9) == (rounds[0], 11.0)
    # Something must have been answered.
    assert rounds_within(ledger, 1.0) == (rounds[0], 11.0)
