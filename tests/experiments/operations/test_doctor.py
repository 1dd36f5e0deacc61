# SPDX-License-Identifier: Apache-2.0
"""Every kind of file, damaged in every way: the doctor names it, and says nothing without cause."""

import hashlib
import io

import msgspec
import pytest
from rich.console import Console

from experiments.files.checked_json import encode
from experiments.ledger.forecasts import write_forecast
from experiments.ledger.owner import this_process
from experiments.ledger.tables import collate
from experiments.operations.doctor import doctor
from experiments.plan.jobs import alone
from experiments.plan.point import to_json
from experiments.report import finished
from model.data.prepare import prepare
from model.data.source import TextFiles
from model.training.checkpoints import checkpoint_files
from model.training.checkpoints.checkpoint_files import Saved

ME = this_process({})
N_POSITIONS = 16
WEIGHTS = bytes(range(100))


@pytest.fixture
def chosen(points):
    """The first is done after a kill, the second failed, the third has a checkpoint."""
    return points[:3]


@pytest.fixture
def whole(tmp_path, ledger, chosen, study, record, forecast):
    """A folder with every kind of file in it."""
    (tmp_path / "texts").mkdir()
    for i in range(20):
        (tmp_path / "texts" / f"{i}.txt").write_text(f"document {i} " * 9)
    ledger.data.mkdir(parents=True)
    source = TextFiles(paths=(str(tmp_path / "texts"),), validation_fraction=0.3)
    prepare(source, ledger.data).write(ledger.manifest)
    ledger.write_plan(to_json(study), chosen, [alone(p).job for p in chosen])
    done, failed, stopped = chosen
    end(ledger, done.id, "killed")
    ledger.job(done.id).claim(ME, lease_seconds=9, max_attempts=9)
    for attempt in (1, 2):
        for step in (1, 2):
            ledger.metrics.write(done.id, attempt, {"step": step, "loss_nats": 1 / step})
    with ledger.writing_weights(done.id) as write:
        write(WEIGHTS)
    weights_sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    ledger.write_result(done.id, result(done, record, weights_sha256=weights_sha256))
    for _ in range(3):
        end(ledger, failed.id, "oom")
    ledger.job(failed.id).forgive()
    end(ledger, stopped.id, "preempted")
    save(ledger, stopped.id, Saved(10, 1))
    write_forecast(ledger, "abc", forecast(done))
    collate(ledger, chosen)
    finished.remember(ledger, study, [done], [done], "42", 0.1)
    return ledger


def end(ledger, name, how):
    job = ledger.job(name)
    job.end(job.claim(ME, lease_seconds=9, max_attempts=9), how, "because", 0)


def result(point, record, **changes):
    of = {"job_id": point.id, "data_fingerprint": point.spec.data_fingerprint}
    return record(flops=point.flops, provenance=of, **changes)


def save(ledger, name, saved):
    folder = ledger.checkpoints(name)
    folder.mkdir(parents=True)
    checkpoint_files.begin(folder, saved)
    (folder / str(saved) / "state").mkdir(parents=True)
    (folder / str(saved) / "state" / "data").write_bytes(bytes(range(100)))
    checkpoint_files.finish(folder, saved, checkpoint_files.digest(folder, saved, flush=True))


def examine(ledger):
    """(number of damaged files, what is damaged, notes)."""
    console = Console(file=io.StringIO(), width=200, markup=False, soft_wrap=True)
    n_damaged = doctor("mine", ledger, console)
    lines = console.file.getvalue().splitlines()
    damages = [line for line in lines if line.startswith("DAMAGED ")]
    assert bool(damages) == bool(n_damaged)
    assert all(line.endswith(".") for line in damages), "every damage has a way out"
    return n_damaged, damages, [line for line in lines if line.startswith("note: ")]


def test_a_whole_folder_is_sound(whole):
    assert examine(whole) == (0, [], [])


KINDS = (
    ("study", "study.json"),
    ("plan", "plan.jsonl"),
    ("manifest", "manifest.json"),
    ("training tokens", "data/train.npy"),
    ("validation tokens", "data/validation.npy"),
    ("job", "jobs/{0}/job.json"),
    ("claim", "jobs/{0}/claims/000002.json"),
    ("ending", "jobs/{1}/attempts/000003.json"),
    ("spec", "runs/{1}/spec.json"),
    ("spec of a finished run", "runs/{0}/spec.json"),
    ("result", "runs/{0}/result.json"),
    ("weights", "runs/{0}/weights.safetensors"),
    ("metrics", "runs/{0}/metrics/000001.jsonl"),
    ("checkpoint", "jobs/{2}/checkpoints/10-1/state/data"),
    ("digest of a checkpoint", "jobs/{2}/checkpoints/10-1.sha256"),
    ("forecast", "forecasts/1.000000e+12-abc.json"),
    ("finished", "finished.json"),
    ("table", "table.csv"),
    ("curves", "curves.csv"),
    ("costs", "costs.csv"),
)


def path_of(ledger, name, chosen):
    return ledger.folder / name.format(*(point.id for point in chosen))


def is_named(ledger, path, damages):
    """Whether a line is about the file, or about the checkpoint that it is part of."""
    key = path.relative_to(ledger.folder).as_posix()
    if "checkpoints" in key:
        key = key[: key.index("10-1") + 4]
    return any(f"{key}:" in line or f"{key} or " in line for line in damages)


@pytest.mark.parametrize("name", [k[1] for k in KINDS], ids=[k[0] for k in KINDS])
def test_a_flipped_bit_is_named_wherever_it_is(whole, chosen, name):
    path = path_of(whole, name, chosen)
    good = path.read_bytes()
    n_bits = 8 * len(good)
    for i in range(N_POSITIONS):
        # Spread over the file, and over the bits of a byte; the last is in the last byte.
        bit = min(i * n_bits // (N_POSITIONS - 1) + i % 8, n_bits - 1)
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        n_damaged, damages, _ = examine(whole)
        assert n_damaged, bit
        assert is_named(whole, path, damages), (bit, damages)
    path.write_bytes(good)
    assert examine(whole)[0] == 0


# An attempt that was killed before its first line may leave an empty file.
@pytest.mark.parametrize(
    "name",
    [k[1] for k in KINDS if k[0] != "metrics"],
    ids=[k[0] for k in KINDS if k[0] != "metrics"],
)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_cut_or_emptied_file_is_named(whole, chosen, name, share):
    path = path_of(whole, name, chosen)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    _, damages, notes = examine(whole)
    is_stale_table = share > 0 and name.endswith(".csv")
    assert is_named(whole, path, damages) or (is_stale_table and notes)


GONE = (
    *("study", "plan", "manifest", "training tokens", "validation tokens"),
    *("job", "claim", "spec", "spec of a finished run", "result", "checkpoint"),
)


@pytest.mark.parametrize("kind", GONE)
def test_a_deleted_file_is_named(whole, chosen, kind):
    path = path_of(whole, dict(KINDS)[kind], chosen)
    path.unlink()
    assert is_named(whole, path, examine(whole)[1])


@pytest.mark.parametrize("has_result", [True, False])
def test_weights_that_are_gone_or_of_a_killed_attempt_are_no_damage(whole, chosen, has_result):
    weights = path_of(whole, "runs/{0}/weights.safetensors", chosen)
    weights.unlink() if has_result else weights.rename(
        path_of(whole, "runs/{1}/weights.safetensors", chosen)
    )
    n_damaged, _, notes = examine(whole)
    assert n_damaged == 0
    (line,) = notes
    assert f"{chosen[0].id}/weights.safetensors is gone. The result stands" in line


def test_weights_that_no_result_names_are_noted(whole, chosen, record):
    done = chosen[1]
    whole.write_result(done.id, result(done, record))
    collate(whole, chosen)
    weights = path_of(whole, "runs/{1}/weights.safetensors", chosen)
    weights.write_bytes(WEIGHTS)
    n_damaged, _, notes = examine(whole)
    assert n_damaged == 0
    assert [f"{done.id}/weights.safetensors is named by no result" in n for n in notes] == [True]


@pytest.mark.parametrize("name", ["jobs/{0}/hb/000001", "jobs/{1}/retries/000003"])
def test_a_file_that_should_be_empty_and_is_not_is_named(whole, chosen, name):
    path = path_of(whole, name, chosen)
    assert path.read_bytes() == b""
    path.write_bytes(b"\0")
    assert is_named(whole, path, examine(whole)[1])


def test_a_file_that_says_the_same_in_other_bytes_is_named(whole):
    """numpy reads '<u1' for '|u1', which one bit apart mean the same; JSON has many forms."""
    path = whole.data / "train.npy"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"'|u1'", b"'<u1'"))
    assert path.read_bytes() != good
    assert is_named(whole, path, examine(whole)[1])
    path.write_bytes(good)
    whole.manifest.write_text(whole.manifest.read_text() + " ")
    assert is_named(whole, whole.manifest, examine(whole)[1])


def swap(ledger, chosen, name):
    """Puts the intact file of another run where that of the first one belongs."""
    for_first, for_second = (
        path_of(ledger, name.replace("{0}", f"{{{i}}}"), chosen) for i in (0, 1)
    )
    for_first.write_bytes(for_second.read_bytes())
    return for_first


@pytest.mark.parametrize("name", ["runs/{0}/spec.json", "jobs/{0}/job.json"])
def test_an_intact_file_of_another_run_is_named(whole, chosen, name):
    path = swap(whole, chosen, name)
    assert is_named(whole, path, examine(whole)[1])


WRONG_RESULTS = (
    ("status", {"status": "fine"}, "'fine'"),
    ("loss", {"losses": {}}, "no loss"),
    ("flops", {"flops": {"6n_total": 1.0}}, "other FLOPs"),
    ("data", {"data_fingerprint": "00"}, "other data"),
    ("job", {"job_id": "nobody"}, "a job that does not train it"),
    ("shape", {"flops": 3}, "not what it should be"),
)


@pytest.mark.parametrize(
    ("change", "words"), [w[1:] for w in WRONG_RESULTS], ids=[w[0] for w in WRONG_RESULTS]
)
def test_a_result_that_contradicts_its_spec_is_named(whole, chosen, record, change, words):
    wrong = msgspec.to_builtins(result(chosen[0], record))
    for key, value in change.items():
        (wrong["provenance"] if key in wrong["provenance"] else wrong)[key] = value
    path = path_of(whole, "runs/{0}/result.json", chosen)
    path.write_bytes(encode(wrong))
    _, damages, _ = examine(whole)
    assert any(words in line for line in damages if is_named(whole, path, [line]))


def test_what_killed_processes_rightly_leave_is_no_damage(whole, chosen):
    torn = path_of(whole, "runs/{0}/metrics/000001.jsonl", chosen)
    torn.write_bytes(torn.read_bytes()[:-20])
    (whole.folder / "runs" / chosen[0].id / ".result.json.0123").write_text("half")
    (whole.checkpoints(chosen[2].id) / "20-1.tmp").write_text("")
    kept = whole.folder / "runs" / chosen[1].id / "result.json.damaged-0123abcd"
    kept.write_text("kept")
    (whole.folder / "notes.txt").write_text("mine")
    for derived in (whole.table, whole.curves, whole.contexts, whole.costs):
        derived.touch()
    n_damaged, _, notes = examine(whole)
    assert n_damaged == 0
    assert len(notes) == 3
    assert any(f"{chosen[1].id}/{kept.name} was damaged" in note for note in notes)
    assert any("torn last line" in note for note in notes)
    assert "notes.txt is no file of ours" in notes[0]


def test_a_fit_that_is_not_the_one_of_the_answer_is_noted(whole, chosen, study):
    whole.fits.mkdir()
    (whole.fits / "additive.json").write_text("{}")
    finished.remember(whole, study, [chosen[0]], [chosen[0]], "42", 0.1)
    assert examine(whole) == (0, [], [])
    (whole.fits / "additive.json").write_text("[]")
    n_damaged, _, notes = examine(whole)
    assert n_damaged == 0
    assert len(notes) == 1
    assert "fits/additive.json is not what `isoflop run` wrote" in notes[0]


def test_a_table_that_is_older_than_the_results_is_no_damage(whole, chosen, record):
    collate(whole, [chosen[0]])
    whole.write_result(chosen[1].id, result(chosen[1], record))
    n_damaged, _, notes = examine(whole)
    assert n_damaged == 0
    assert {line.split()[1] for line in notes} == {"table.csv", "curves.csv", "costs.csv"}
    assert all("isoflop fit" in line for line in notes)


def test_a_table_row_of_a_failed_run_that_was_tried_again_is_no_damage(
    ledger, chosen, study, record
):
    ledger.write_plan(to_json(study), chosen, [alone(p).job for p in chosen])
    for _ in range(3):
        end(ledger, chosen[0].id, "oom")
    collate(ledger, chosen)
    assert "failed" in ledger.table.read_text()
    ledger.job(chosen[0].id).forgive()
    ledger.job(chosen[0].id).claim(ME, lease_seconds=9, max_attempts=9)
    ledger.write_result(chosen[0].id, result(chosen[0], record))
    _, damages, notes = examine(ledger)
    assert not [line for line in damages if "table.csv" in line]
    assert any("table.csv is older" in line for line in notes)
