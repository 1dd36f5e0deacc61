# SPDX-License-Identifier: Apache-2.0
"""isoflop check, with a stand-in for the process that compiles."""

import json
import sys
import textwrap

import pytest

from experiments.checks.compile import check, launch
from experiments.cli import main

GIB = 2**30
STUDY = """
import dataclasses
from experiments.studies.quickstart import STUDY
from experiments.study.study import Ladder
from model.data.source import Zipf
source = Zipf(alpha=0.5, epsilon=0.1, base=7, n_digits=2, n_answers=1, language_seed=0)
ladder = Ladder(d_models=(16, 32), tokens_per_param=(1.0, 1000.0))
STUDY = dataclasses.replace(
    STUDY, name="light", data=source, sizes=ladder, budgets=(3e10,), seeds=(0, 1),
    forecast_budgets=(), mesh=(1, 1, 16, 1),
    recipe=STUDY.recipe.with_(batch__multiple=16),
)
"""
DEVICES = {
    "event": "devices",
    "kind": "TPU v5 lite",
    "platform": "tpu",
    "n_devices": 16,
    "memory_bytes": 16 * GIB,
    "links": {"run": 0, "data": 0, "fsdp": 2, "tensor": 0},
    "measured": {},
    "versions": {"jax": "0"},
}
EXECUTION = "attention=splash,layers=scanned,remat=none,n_microbatches=1,n_loss_chunks=1"


def compiled(key: str, gib: float, execution: str = EXECUTION) -> list[dict]:
    done = {"needed_bytes": gib * GIB, "state_bytes": GIB, "collectives": {"all-gather": 1e6}}
    done |= {"compiler_says": "", "seconds": 3.0, "host_memory_bytes": GIB}
    return [
        {"event": "compiling", "key": key, "execution": execution},
        {"event": "compiled", "key": key, "execution": execution} | done,
    ]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """(exit code, output, error, check.json) of a check whose process says the given events."""
    study = tmp_path / "light.py"
    study.write_text(STUDY)

    def run_check(events: list[dict], *arguments: str, code: int = 0, stderr: str = ""):
        script = tmp_path / "stand_in"
        said = "\n".join(map(json.dumps, events))
        script.write_text(
            textwrap.dedent(f"""\
            #!{sys.executable}
            import json, sys
            request = json.load(sys.stdin)
            assert set(request["programs"]) == {{"p0", "p1"}}, request["programs"]
            sys.stderr.write({stderr!r})
            print({said!r})
            sys.exit({code})
            """)
        )
        script.chmod(0o755)
        monkeypatch.setattr(check, "interpreter", lambda topology: str(script))
        arguments = ("check", str(study), "--results", str(tmp_path / "results"), *arguments)
        try:
            main.main(list(arguments))
            status = 0
        except SystemExit as error:
            status = error.code
        output = capsys.readouterr()
        path = tmp_path / "results" / "light" / "check.json"
        record = json.loads(path.read_text()) if path.exists() else None
        return status, output.out, output.err, record

    return run_check


def test_what_fits_is_told_with_how_much_is_free(run):
    events = [DEVICES, *compiled("p0", 4.0), *compiled("p1", 10.0)]
    status, output, _, record = run(events, "--topology", "v5e:4x4")
    assert status == 0
    assert "10.00" in output
    assert "4.40 free" in output  # Of 90 % of 16 GiB.
    assert [len(row["points"]) for row in record["programs"]] == [2, 2]
    assert record["programs"][1]["free_bytes"] == pytest.approx((0.9 * 16 - 10) * GIB)
    low, high = record["study_hours"]
    assert 0 < low < high
    assert record["study_hours"][0] == pytest.approx(
        sum(row["hours"][0] for row in record["programs"])
    )


def test_what_does_not_fit_is_told_with_how_much_is_lacking_and_fails(run):
    events = [DEVICES, *compiled("p0", 4.0), *compiled("p1", 20.0)]
    status, output, _, record = run(events, "--topology", "v5e:4x4")
    assert status == 1
    assert "NO: 5.60 over" in output
    assert [row["fits"] for row in record["programs"]] == [True, False]


def test_of_several_settings_the_last_one_counts_and_all_are_kept(run):
    lean = EXECUTION.replace("remat=none", "remat=block")
    events = [DEVICES, *compiled("p0", 20.0), *compiled("p0", 9.0, lean), *compiled("p1", 1.0)]
    status, output, _, record = run(events, "--topology", "v5e:4x4")
    assert status == 0
    assert "remat block" in output
    assert [one["needed_bytes"] for one in record["programs"][0]["tried"]] == [20 * GIB, 9 * GIB]


def test_a_program_that_cannot_be_compiled_leaves_the_others_their_answer(run):
    unfit = {"event": "unfit", "key": "p0", "reason": "nothing fits here"}
    status, output, _, record = run([DEVICES, unfit, *compiled("p1", 1.0)], "--topology", "v5e:4x4")
    assert status == 1
    assert "nothing fits here" in output
    assert [row["fits"] for row in record["programs"]] == [False, True]


def test_warnings_of_the_partitioner_are_counted_and_kept(run):
    events = [DEVICES, *compiled("p0", 1.0), *compiled("p1", 1.0)]
    text = "W0 [SPMD] Involuntary full rematerialization. The compiler cannot ...\n"
    _, output, _, record = run(events, "--topology", "v5e:4x4", stderr=2 * text)
    assert sum(row["tried"][0]["n_rematerializations"] for row in record["programs"]) == 2
    assert "involuntary full rematerializations" in output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--topology", "v5e:banana"), "say a generation"),
        (("--topology", "v5e:16x16"), "mesh=(1, 1, 16, 1) has 16 devices, v5e:16x16 has 256"),
        (("--topology", "v5e:4x4", "seeds=0,0"), "distinct"),
        (("--topology", "v5e:4x4", "mesh=1,1,16"), "mesh"),
    ],
)
def test_a_mistake_is_told_in_one_line(run, arguments, told):
    status, _, error, record = run([DEVICES], *arguments)
    assert status == 2
    assert told in error
    assert error.count("\n") == 1
    assert record is None


def test_a_mesh_that_the_slice_cannot_hold_is_told_in_one_line(run):
    refused = {"event": "refused", "reason": "mesh=(1, 3, 5, 1): its axes must be products"}
    status, _, error, _ = run([refused], "--topology", "v5e:4x4")
    assert (status, error.count("\n")) == (2, 1)
    assert "its axes must be products" in error


def test_a_process_that_dies_is_told_with_its_last_words(run):
    words = "Traceback\nRuntimeError: out of luck\n--------------------\nFor simplicity, JAX has"
    status, _, error, _ = run([DEVICES], "--topology", "v5e:4x4", code=9, stderr=words)
    assert (status, error.count("\n")) == (2, 1)
    assert "ended with 9: RuntimeError: out of luck" in error


def test_without_libtpu_one_line_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs jax\[tpu\].*make .venv-tpu/.ready"):
        launch.interpreter("v5e:4x4")
    assert launch.interpreter(None) == sys.executable


def test_the_environment_beside_the_code_is_used_once_it_is_complete(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    (tmp_path / ".venv-tpu").mkdir()
    (tmp_path / ".venv-tpu" / ".ready").touch()
    assert launch.interpreter("v5e:4x4") == str(tmp_path / ".venv-tpu" / "bin" / "python")
