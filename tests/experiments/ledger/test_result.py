# SPDX-License-Identifier: Apache-2.0
"""Records of runs and trunks: what is written is read back, and what is not known is refused."""

import io
import json
import shutil

import pytest
from rich.console import Console

from experiments.files.checked_json import Damaged, encode, text_of, with_checksum
from experiments.ledger.asked_points import read_asked
from experiments.ledger.claims import Limits
from experiments.ledger.progress import survey
from experiments.ledger.result import OtherVersion
from experiments.ledger.tables import collate
from experiments.operations.doctor import doctor
from experiments.operations.export import rows
from experiments.operations.gc import gc
from experiments.plan.jobs import alone

# As isoflop 0.1 wrote it, in short.
FIRST = {"status": "ok", "loss_nats": 2.5, "costs": {"wall_seconds": 1.0}, "provenance": {}}


def put(ledger, key, record):
    path = ledger.folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(with_checksum(json.dumps(record)))
    return path


def fields_of(record):
    return json.loads(text_of(encode(record)))


def test_a_trunk_is_read_back(ledger, trunk_record):
    made = trunk_record("a", "b", step=7, reasons=("", "no number"))
    assert ledger.write_trunk("trunk-1", made)
    assert not ledger.write_trunk("trunk-1", trunk_record("c"))
    assert ledger.read_trunk("trunk-1") == made
    assert not made.is_lost
    assert trunk_record("a", reasons=("x", "y")).is_lost


UNKNOWN = (*(("joule",), ("costs", "joule"), ("provenance", "hosts")), ("curve", 0, "loss"))


@pytest.mark.parametrize("path", UNKNOWN, ids=lambda path: ".".join(map(str, path)))
def test_a_field_that_is_not_known_is_refused_by_name(ledger, record, path):
    fields = fields_of(record())
    node = fields
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = 1.0
    put(ledger, "runs/a/result.json", fields)
    with pytest.raises(Damaged, match=rf"result\.json is not what it should be.*{path[-1]}"):
        ledger.read_result("a")


def test_every_field_is_needed(ledger, record):
    whole = fields_of(record())
    for name in whole.keys() - {"version"}:
        path = put(ledger, "runs/a/result.json", {k: v for k, v in whole.items() if k != name})
        with pytest.raises(Damaged, match=name):
            ledger.read_result("a")
        path.unlink()


@pytest.mark.parametrize(
    ("record_", "reads"),
    [
        (FIRST, "isoflop 0.1 reads it"),
        ({**FIRST, "version": 2}, "isoflop 0.2 reads it"),
        ({**FIRST, "version": 4}, "a later isoflop reads it"),
    ],
)
def test_a_record_of_another_version_is_refused_by_every_reader_and_stays(
    ledger, points, record_, reads
):
    ledger.write_plan("{}", points, [alone(point).job for point in points])
    put(ledger, f"runs/{points[0].id}/result.json", record_)
    put(ledger, f"jobs/{points[0].id}/checkpoints/1-1/state", {})
    before = {path: path.read_bytes() for path in ledger.folder.rglob("*") if path.is_file()}
    console = Console(file=io.StringIO())
    readers = (
        lambda: ledger.read_result(points[0].id),
        lambda: ledger.has_intact_result(points[0].id),
        lambda: ledger.set_aside_damaged(points[0].id),
        lambda: collate(ledger, points),
        lambda: survey(ledger, read_asked(ledger), n_devices=1),
        lambda: list(rows(ledger, points, Limits())),
        lambda: gc("mine", ledger, console, delete=True, options=("others",), limits=Limits()),
        lambda: doctor("mine", ledger, console),
    )
    for read in readers:
        with pytest.raises(OtherVersion, match=rf"result\.json .*{reads}.*fit TABLE") as refused:
            read()
        assert "\n" not in str(refused.value)
    assert before == {p: p.read_bytes() for p in ledger.folder.rglob("*") if p.is_file()}


def test_a_trunk_of_another_version_is_not_trained_again(ledger):
    put(ledger, "jobs/trunk-1/trunk.json", {"step": 3, "clusters": [], "reasons": [""]})
    with pytest.raises(OtherVersion, match=r"trunk\.json .*isoflop 0\.1 reads it"):
        ledger.read_trunk("trunk-1")
    # Points with results of ours began elsewhere: their tables do without it.
    assert ledger.trunks({""}) == {}


@pytest.mark.parametrize("left", ["runs/1/spec.json", "jobs/1/job.json"])
def test_a_ledger_of_the_first_version_is_refused_even_without_a_result(ledger, points, left):
    ledger.require_version()
    ledger.write_plan("{}", points)
    ledger.require_version()
    (ledger.folder / "ledger.json").unlink()
    shutil.rmtree(ledger.folder / "runs")
    put(ledger, left, {})
    with pytest.raises(OtherVersion, match=r"version 1: isoflop 0\.1 reads it\. Give the study"):
        ledger.require_version()


@pytest.mark.parametrize(
    ("version", "reads"), [(2, r"isoflop 0\.2 reads it"), (4, "a later isoflop reads it")]
)
def test_a_ledger_of_another_version_is_refused_with_the_ways_out(ledger, version, reads):
    put(ledger, "ledger.json", {"version": version})
    with pytest.raises(OtherVersion, match=rf"version {version}: {reads}\. Give the study"):
        ledger.require_version()
