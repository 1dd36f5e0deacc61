# SPDX-License-Identifier: Apache-2.0
import csv
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments.ledger import Damaged, Ledger, create_text, replace_text

HOLD_THE_LOCK = """
import sys, time
from experiments.ledger import Ledger
with Ledger(sys.argv[1], sys.argv[2]).lock():
    print("held", flush=True)
    time.sleep(60)
"""
WRITE_A_HUNDRED = """
import json, sys
from pathlib import Path
from experiments.ledger import create_text
folder, letter = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps([create_text(folder / f"{i}.json", letter * 10_000) for i in range(100)]))
"""


def test_a_file_is_created_once_and_whole(tmp_path):
    path = tmp_path / "deep" / "file.json"
    assert create_text(path, "first")
    assert not create_text(path, "second")
    assert path.read_text() == "first"
    replace_text(path, "third")
    assert path.read_text() == "third"
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_of_two_writers_one_wins_and_its_text_stays(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE_A_HUNDRED, str(tmp_path), letter],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for letter in "ab"
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    won = [json.loads(writer.communicate(timeout=30)[0]) for writer in writers]
    for i, (a, b) in enumerate(zip(*won, strict=True)):
        assert a != b
        assert (tmp_path / f"{i}.json").read_text() == ("a" if a else "b") * 10_000
    assert len(list(tmp_path.iterdir())) == 100


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    replace_text(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_text(path, "new")
    with pytest.raises(OSError, match="No space"):
        create_text(tmp_path / "result.json", "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


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


def test_every_flipped_byte_and_every_truncation_of_a_result_is_noticed(ledger, points, record):
    point = points[0]
    ledger.write_result(point.id, record())
    path = ledger.run(point.id) / "result.json"
    good = path.read_bytes()
    for position in range(len(good)):
        flipped = bytearray(good)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            record_read = ledger.read_result(point.id)
        except Damaged:
            continue
        assert record_read == record(), position  # 1E-05 for 1e-05 says the same.
    # The last byte is the end of the line.
    for length in range(0, len(good) - 1, 5):
        path.write_bytes(good[:length])
        with pytest.raises(Damaged):
            ledger.read_result(point.id)
    path.write_bytes(good)
    assert ledger.read_result(point.id) == record()


def test_a_damaged_result_stops_the_table_instead_of_shortening_it(ledger, points, record):
    ledger.write_plan("{}", points)
    for point in points:
        ledger.write_result(point.id, record())
    path = ledger.run(points[1].id) / "result.json"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(Damaged, match=points[1].id):
        ledger.collate(points)


def test_the_plan_is_read_back_and_a_changed_spec_is_noticed(ledger, points):
    assert ledger.read_plan() == []
    ledger.write_plan("{}", points)
    assert ledger.read_plan() == points
    assert ledger.read_point(points[0].id) == points[0]
    path = ledger.run(points[0].id) / "spec.json"
    path.write_text(path.read_text().replace('"seq_len":128', '"seq_len":129'))
    with pytest.raises(Damaged, match=r"was changed.*isoflop run"):
        ledger.read_point(points[0].id)


def test_runs_that_are_no_longer_asked_for_stay_and_are_named(ledger, points, record):
    ledger.write_plan("{}", points)
    ledger.write_result(points[0].id, record())
    ledger.write_plan("{}", points[1:])
    assert ledger.other_runs(ledger.read_plan()) == [points[0].id]
    assert ledger.has_result(points[0].id)


def test_the_lock_excludes_another_process_and_is_free_after_kill_9(ledger):
    arguments = [sys.executable, "-c", HOLD_THE_LOCK, str(ledger.results), ledger.folder.name]
    holder = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="another process is running"), ledger.lock():
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with ledger.lock():
        pass


def test_tables_have_the_same_bytes_in_whatever_order_results_arrived(tmp_path, points, record):
    tables = []
    for name, order in (("forward", points), ("backward", points[::-1])):
        ledger = Ledger(tmp_path / name, "small")
        ledger.write_plan("{}", points)
        for point in order:
            ledger.write_result(point.id, record(2.0 + point.seed / 7))
        ledger.collate(ledger.read_plan())
        tables.append([p.read_bytes() for p in (ledger.table, ledger.curves, ledger.costs)])
    assert tables[0] == tables[1]


def test_tables_from_the_plan_and_from_disk_have_the_same_bytes(ledger, points, record):
    ledger.write_plan("{}", points)
    for point in points:
        ledger.write_result(point.id, record())
    ledger.collate(points)
    before = ledger.table.read_bytes()
    ledger.collate(ledger.read_plan())
    assert ledger.table.read_bytes() == before


def test_the_table_keeps_diverged_runs_with_their_reason_and_leaves_missing_ones_out(
    ledger, points, record
):
    reason = 'training loss is not finite, at step "7"'
    ledger.write_result(points[0].id, record(None, status="diverged", reason=reason))
    ledger.write_result(points[2].id, record(2.5))
    ledger.collate(points)
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


def test_attempts_are_counted(ledger, points):
    assert [ledger.write_attempt(points[0].id, {"reason": "x"}) for _ in range(3)] == [1, 2, 3]
    folder = ledger.folder / "jobs" / points[0].id / "attempts"
    assert json.loads((folder / "000002.json").read_text()) == {"reason": "x"}


def test_threads_of_one_runner_do_not_disturb_each_other(ledger, points, record):
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda p: ledger.write_result(p.id, record()), points))
    assert all(done)
    assert all(ledger.read_result(p.id) == record() for p in points)
