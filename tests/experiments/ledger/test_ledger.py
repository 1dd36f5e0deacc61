# SPDX-License-Identifier: Apache-2.0
import csv
from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments.files.checked_json import Damaged, with_checksum
from experiments.ledger.ledger import Ledger, check_id
from experiments.ledger.tables import collate
from experiments.plan.jobs import alone
from experiments.plan.point import to_json


def test_a_result_is_never_replaced(ledger, points, record):
    point = points[0]
    assert ledger.read_result(point.id) is None
    assert ledger.write_result(point.id, record(2.5))
    assert not ledger.write_result(point.id, record(9.9))
    assert ledger.read_result(point.id) == record(2.5)
    assert ledger.has_result(point.id)


def test_a_loss_that_is_no_number_cannot_be_written(ledger, points, record):
    with pytest.raises(ValueError, match="JSON"):
        ledger.write_result(points[0].id, record(float("nan")))
    assert not ledger.has_result(points[0].id)


def test_flipped_bytes_and_truncations_of_a_result_are_noticed(ledger, points, record):
    """Each byte in seven; every bit of a shorter record is flipped in test_checked_json."""
    point = points[0]
    ledger.write_result(point.id, record())
    path = (ledger.folder / "runs" / point.id) / "result.json"
    good = path.read_bytes()
    for position in range(0, len(good), 7):
        flipped = bytearray(good)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            record_read = ledger.read_result(point.id)
        except Damaged:
            continue
        assert record_read == record(), position  # 1E-05 for 1e-05 says the same.
    # The last byte is the end of the line.
    for length in range(0, len(good) - 1, 35):
        path.write_bytes(good[:length])
        with pytest.raises(Damaged):
            ledger.read_result(point.id)
    path.write_bytes(good)
    assert ledger.read_result(point.id) == record()


def test_a_damaged_result_stops_the_table_instead_of_shortening_it(ledger, points, record):
    ledger.write_plan("{}", points)
    for point in points:
        ledger.write_result(point.id, record())
    path = (ledger.folder / "runs" / points[1].id) / "result.json"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(Damaged, match=points[1].id):
        collate(ledger, points)


def test_the_plan_is_read_back_and_a_changed_spec_is_noticed(ledger, points):
    assert ledger.read_plan() == []
    ledger.write_plan("{}", points)
    assert ledger.read_plan() == points
    assert ledger.read_point(points[0].id) == points[0]
    path = (ledger.folder / "runs" / points[0].id) / "spec.json"
    changed = to_json(points[0]).replace('"seq_len":128', '"seq_len":129')
    path.write_bytes(with_checksum(changed))
    with pytest.raises(Damaged, match=r"was changed.*isoflop run"):
        ledger.read_point(points[0].id)
    path.write_text(path.read_text()[:-9])
    with pytest.raises(Damaged, match=r"is damaged.*isoflop run"):
        ledger.read_point(points[0].id)


def test_a_plan_that_lost_lines_is_noticed(ledger, points):
    ledger.write_plan("{}", points)
    path = ledger.folder / "plan.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged in (lines[:-1], lines[1:], lines[:3] + lines[-1:], lines[1::-1] + lines[2:], []):
        path.write_bytes(b"".join(damaged))
        with pytest.raises(Damaged, match=r"plan\.jsonl is damaged. Delete it and run"):
            ledger.read_plan()
    ledger.write_plan("{}", points)
    assert ledger.read_plan() == points


def test_what_follows_from_the_plan_is_written_again_when_it_is_damaged(ledger, points):
    jobs = [alone(point).job for point in points]
    assert ledger.write_plan("{}", points, jobs) == []
    spec, job = f"runs/{points[0].id}/spec.json", f"jobs/{points[1].id}/job.json"
    for key in (spec, job):
        (ledger.folder / key).write_bytes(b"")
    assert ledger.write_plan("{}", points, jobs) == [spec, job]
    assert ledger.read_point(points[0].id) == points[0]
    assert ledger.job(points[1].id).job() == jobs[1]


def test_a_damaged_result_is_kept_under_another_name(ledger, points, record):
    name = points[0].id
    assert ledger.set_aside_damaged(name) == []
    ledger.write_result(name, record(2.5))
    assert ledger.has_intact_result(name)
    assert ledger.set_aside_damaged(name) == []
    path = ledger.folder / "runs" / name / "result.json"
    evidence = path.read_bytes()[:-9]
    path.write_bytes(evidence)
    assert ledger.has_result(name)
    assert not ledger.has_intact_result(name)
    (note,) = ledger.set_aside_damaged(name)
    (kept,) = path.parent.glob("result.json.damaged-*")
    assert kept.read_bytes() == evidence
    assert kept.name in note
    assert ledger.write_result(name, record(2.5))


def test_runs_that_are_no_longer_asked_for_stay_and_are_named(ledger, points, record):
    ledger.write_plan("{}", points)
    ledger.write_result(points[0].id, record())
    ledger.write_plan("{}", points[1:])
    assert ledger.other_runs({p.id for p in points[1:]}) == [points[0].id]
    assert ledger.has_result(points[0].id)


def test_tables_have_the_same_bytes_in_whatever_order_results_arrived(tmp_path, points, record):
    tables = []
    for name, order in (("forward", points), ("backward", points[::-1])):
        ledger = Ledger(tmp_path / name, "small")
        ledger.write_plan("{}", points)
        for point in order:
            ledger.write_result(point.id, record(2.0 + point.seed / 7))
        collate(ledger, ledger.read_plan())
        tables.append([p.read_bytes() for p in (ledger.table, ledger.curves, ledger.costs)])
    assert tables[0] == tables[1]


def test_tables_from_the_plan_and_from_disk_have_the_same_bytes(ledger, points, record):
    ledger.write_plan("{}", points)
    for point in points:
        ledger.write_result(point.id, record())
    collate(ledger, points)
    before = ledger.table.read_bytes()
    collate(ledger, ledger.read_plan())
    assert ledger.table.read_bytes() == before


def test_the_table_keeps_diverged_runs_with_their_reason_and_leaves_missing_ones_out(
    ledger, points, record
):
    reason = 'training loss is not finite, at step "7"'
    ledger.write_result(points[0].id, record(None, status="diverged", reason=reason))
    ledger.write_result(points[2].id, record(2.5))
    collate(ledger, points)
    with ledger.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run_id"] for row in rows] == [points[0].id, points[2].id]
    assert (rows[0]["status"], rows[0]["reason"], rows[0]["loss_nats"]) == ("diverged", reason, "")
    assert float(rows[1]["loss_nats"]) == 2.5
    assert float(rows[1]["flops_matmul_full"]) == points[2].flops["matmul_full"]
    with ledger.curves.open(newline="") as file:
        curve = [row for row in csv.DictReader(file) if row["run_id"] == points[2].id]
    assert [int(row["step"]) for row in curve] == [1, 2]
    per_token = points[2].flops["matmul_full"] / points[2].n_tokens
    assert float(curve[1]["flops_matmul_full"]) == pytest.approx(200 * per_token)


def test_every_damaged_line_of_metrics_is_counted_and_none_is_believed(ledger, points):
    rows = [{"step": step, "loss_nats": 1 / step} for step in (1, 2, 3)]
    for row in rows:
        ledger.metrics.write(points[0].id, 1, row)
    assert ledger.metrics.read(points[0].id, 1) == (rows, 0)
    path = ledger.folder / "runs" / points[0].id / "metrics" / "000001.jsonl"
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        read, n_damaged = ledger.metrics.read(points[0].id, 1)
        assert read == rows[: len(read)]
        # A line that lacks its end alone has lost nothing.
        is_torn = not (length == 0 or good[:length].endswith((b"\n", b"}")))
        assert n_damaged == is_torn, length
    for position in range(len(good) - 1):
        flipped = bytearray(good)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        read, n_damaged = ledger.metrics.read(points[0].id, 1)
        assert n_damaged >= 1, position
        assert all(row in rows for row in read)


def test_an_infinite_gradient_is_written_as_null_and_read_back(ledger, points):
    for value in (float("inf"), float("-inf"), float("nan")):
        ledger.metrics.write(points[0].id, 1, {"step": 1, "grad_norm": value})
    assert ledger.metrics.read(points[0].id, 1) == ([{"step": 1, "grad_norm": None}] * 3, 0)


def test_metrics_go_to_the_file_of_their_attempt_and_costs_add_up(ledger, points):
    name = points[0].id
    for attempt, seconds in ((1, (1.0, 2.0)), (3, (5.0,)), (4, (100.0,))):
        for second in seconds:
            row = {"train_seconds": second, "wall_seconds": 2 * second, "resumed_at": attempt}
            ledger.metrics.write(name, attempt, row)
    assert ledger.metrics.attempts(name) == [1, 3, 4]
    spent = ledger.metrics.spent(name, before=4)
    assert (spent.wall_seconds, spent.resumed_at) == (14.0, (1, 3))


def test_the_history_of_a_run_has_the_steps_that_count(ledger, points):
    """The first attempt reached 96; the third resumed at 64, the tenth at 96."""
    name = points[0].id
    for attempt, resumed_at, steps in ((1, 0, (32, 64, 96)), (3, 64, (96,)), (10, 96, (128, 160))):
        for step in steps:
            row = {"step": step, "resumed_at": resumed_at, "attempt": attempt}
            row |= {"wall_seconds": (step - resumed_at) / 32}
            ledger.metrics.write(name, attempt, row)
    history = ledger.metrics.history(name)
    found = [(row["step"], row["attempt"]) for row in history]
    assert found == [(32, 1), (64, 1), (96, 3), (128, 10), (160, 10)]
    assert [row["wall_seconds"] for row in history] == [1, 2, 4, 5, 6], "lost work took its time"
    assert ledger.metrics.history(points[1].id) == []


def test_deleted_checkpoints_are_gone_and_deleting_twice_is_no_error(ledger, points):
    folder = ledger.checkpoints(points[0].id)
    (folder / "8-1").mkdir(parents=True)
    ledger.delete_checkpoints(points[0].id)
    ledger.delete_checkpoints(points[0].id)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a b", "a" * 65, "a\n", "ä", "a.b"])
def test_an_id_that_is_no_folder_name_is_refused(ledger, name, record):
    with pytest.raises(ValueError, match="must be 1 to 64"):
        check_id(name)
    with pytest.raises(ValueError, match="must be 1 to 64"):
        ledger.write_result(name, record())
    assert not ledger.folder.exists()


def test_threads_of_one_runner_do_not_disturb_each_other(ledger, points, record):
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda p: ledger.write_result(p.id, record()), points))
    assert all(done)
    assert all(ledger.read_result(p.id) == record() for p in points)
