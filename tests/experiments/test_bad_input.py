# SPDX-License-Identifier: Apache-2.0
"""A user's mistakes, at the command line: one line, exit code 2 (full disk 74), nothing lost."""

import errno
import json
import os

import command_line
import pytest
from command_line import is_one_line
from small_studies import mine

from experiments.files import storage

TEXT = "data=TextFiles(paths=({!r},), validation_fraction=0.5)"


@pytest.fixture(autouse=True)
def home(tmp_path):
    (tmp_path / "mine.py").write_text(mine())
    return tmp_path


NO_PLAN = "has no plan. `isoflop run mine.py` makes one."
MISTAKES = (
    ("an unknown study", ("plan", "nothing"), "unknown study 'nothing'"),
    ("a study file that is not there", ("plan", "nothing.py"), "there is no file 'nothing.py'"),
    ("an unknown command", ("train", "mine.py"), "train"),
    ("an unknown option", ("plan", "mine.py", "--fast"), "unknown option --fast"),
    ("an unknown field", ("plan", "mine.py", "budget=1e9"), "budget: Study has no field"),
    ("a field of the recipe", ("plan", "mine.py", "optimizer.x=1"), "mean recipe.optimizer?"),
    ("a wrong type", ("plan", "mine.py", "seq_len=long"), "seq_len=long"),
    ("no number", ("plan", "mine.py", "budgets=NaN"), "budgets=NaN"),
    ("a word for a number of workers", ("run", "mine.py", "--workers", "all"), "--workers"),
    ("no workers", ("run", "mine.py", "--anyway", "--workers", "0"), "--workers 0"),
    ("no attempts", ("run", "mine.py", "--max-attempts", "0"), "--max-attempts 0"),
    ("checkpoints before now", ("run", "mine.py", "--checkpoint-seconds", "-3"), "-seconds -3"),
    ("hours of no engine", ("run", "mine.py", "--hours", "-1"), "--hours: only with --on slurm"),
    ("results nowhere", ("plan", "mine.py", "--results", ""), "--results: '' is no path"),
    ("no lease", ("lr-check", "mine.py", "--lease-seconds", "-1"), "--lease-seconds -1"),
    ("a budget too small", ("plan", "mine.py", "budgets=1e4"), "budget 1e4"),
    ("a mesh that does not divide", ("run", "mine.py", "mesh=1,1,1,3"), "mesh (1, 1, 1, 3)"),
    ("a length no window has", ("plan", "mine.py", "seq_len=17"), "seq_len=17"),
    ("an unknown objective", ("plan", "mine.py", "recipe.objective=prefix"), "one of next_token"),
    (
        "masks without their share",
        ("run", "mine.py", "recipe.objective=masked"),
        "mask_ratio=None with objective='masked'",
    ),
    ("a word for a width", ("coordinate-check", "mine.py", "--widths", "32,wide"), "'wide'"),
    ("one width", ("coordinate-check", "mine.py", "--widths", "32"), "--widths 32"),
    ("depths upside down", ("coordinate-check", "mine.py", "--depths", "4,2"), "'4,2'"),
    ("no steps", ("coordinate-check", "mine.py", "--steps", "0"), "'0'"),
    ("too few rates", ("lr-check", "mine.py", "--rates", "1,2"), "--rates '1,2'"),
    ("rates without the recipe's", ("lr-check", "mine.py", "--rates", "2,3,4,5,6"), "and 1,"),
    ("a rate of nothing", ("lr-check", "mine.py", "--rates", "0,1,2,3,4"), "'0'"),
    ("tokens without end", ("lr-check", "mine.py", "--tokens", "inf"), "'inf'"),
    ("too few tokens", ("lr-check", "mine.py", "--tokens", "9"), "Raise the budget"),
    ("no workers to check with", ("lr-check", "mine.py", "--workers", "0"), "--workers 0"),
    ("no plan yet", ("status", "mine.py"), NO_PLAN),
    ("no pause between looks", ("status", "mine.py", "--watch", "0"), "--watch 0"),
    ("a word for a pause", ("status", "mine.py", "--watch", "often"), "--watch"),
    (
        "no plan yet of the study as it is changed",
        ("status", "mine.py", "name=b", "seq_len=16"),
        "`isoflop run mine.py name=b seq_len=16` makes one",
    ),
    (
        "no plan yet elsewhere",
        ("gc", "mine.py", "--results", "my r"),
        "`isoflop run mine.py --results 'my r'` makes one",
    ),
    ("nothing to try again", ("retry", "mine.py"), NO_PLAN),
    ("an id that was never planned", ("retry", "mine.py", "abc"), NO_PLAN),
    ("nothing to tidy up", ("gc", "mine.py", "--delete", "--others"), NO_PLAN),
    ("nothing to verify", ("doctor", "mine.py"), "has no runs. `isoflop run mine.py`"),
    ("nothing to export", ("export", "mine.py"), NO_PLAN),
    ("a table of another kind", ("export", "mine.py", "--out", "a.xlsx"), "a.xlsx"),
    ("a tool that is not known", ("export", "mine.py", "--to", "paper", "x"), "--to paper"),
    ("no place for metrics", ("export", "mine.py", "--to", "tensorboard"), "--to"),
    ("an unknown recipe", ("recipe", "nothing"), "unknown recipe 'nothing': known are tiny-bytes,"),
    ("two recipes", ("recipe", "tiny-bytes", "llama-like"), "one recipe at a time"),
    ("no run yet", ("fit", "mine.py"), "has no finished run"),
    ("no run to report", ("report", "mine.py"), "has no finished run"),
)


@pytest.mark.parametrize(
    ("arguments", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_a_mistake_ends_in_one_line_and_exit_code_two(isoflop, arguments, words):
    code, _, err = isoflop(*arguments)
    assert code == 2
    assert is_one_line(err), err
    assert words in err


STUDY_FILES = (
    ("syntax", "STUDY = (", "SyntaxError"),
    ("empty", "", "defines no STUDY"),
    ("another type", "STUDY = 3", "defines no STUDY"),
    ("exception", "raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
    (
        "missing field",
        "from experiments.study.study import Study\nSTUDY = Study(name='x')",
        "TypeError",
    ),
    ("import", "import no_such_module_at_all", "no_such_module_at_all"),
    ("bytes", "\0", "bad.py"),
)


@pytest.mark.parametrize(
    ("text", "words"), [s[1:] for s in STUDY_FILES], ids=[s[0] for s in STUDY_FILES]
)
def test_a_study_file_that_cannot_be_used_is_named(isoflop, home, text, words):
    (home / "bad.py").write_text(text)
    code, _, err = isoflop("plan", "bad.py")
    assert code == 2
    assert is_one_line(err), err
    assert words in err
    assert "bad.py" in err


DATA = (
    ("no such file", None, "nowhere"),
    ("an empty file", b"", "no train data"),
    ("no text", b"\xff\xfe\xfa" * 100, "nowhere"),
    ("one document", b"only one document", "validation"),
)


@pytest.mark.parametrize(("content", "words"), [d[1:] for d in DATA], ids=[d[0] for d in DATA])
def test_data_that_cannot_be_used_are_named(isoflop, home, content, words):
    (home / "mine.py").write_text(mine(TEXT.format("nowhere.txt")))
    if content is not None:
        (home / "nowhere.txt").write_bytes(content)
    code, _, err = isoflop("data", "mine.py")
    assert code == 2
    assert is_one_line(err), err
    assert words in err
    assert not list((home / "results").rglob("*.npy"))


TOKENS = (
    "data=TokenArrays(paths=('a.bin',), vocab_size={}, separator=0, bytes_per_token=None, "
    "validation_fraction=0.5, dtype={!r})"
)
BPE = "data=TextFiles(paths=('a.jsonl',), validation_fraction=0.5, tokenizer=TrainedBPE({}))"
LINES = b'{"text": "a"}\n{"text": "b"}\n'
OTHER_DATA = (
    ("an ending unknown", TEXT.format("a.html"), "a.html", b"<p>", "'.html', which tells no form"),
    ("a field unknown", TEXT.format("a.csv"), "a.csv", b"body\nx\n", "columns 'text'"),
    ("a row without text", TEXT.format("a.json"), "a.json", LINES + b"{}", "line 3 of data file"),
    ("a broken archive", TEXT.format("a.txt.zst"), "a.txt.zst", b"text", "a.txt.zst' cannot be"),
    ("no Parquet", TEXT.format("a.parquet"), "a.parquet", b"text", "a.parquet' cannot be read"),
    ("another encoding", TEXT.format("a.csv"), "a.csv", b"text\ncaf\xe9", "UTF-8 (byte 8)"),
    ("half a token", TOKENS.format(9, "uint16"), "a.bin", b"\0\1\0", "holds 3 bytes, which are no"),
    ("tokens of no type", TOKENS.format(9, None), "a.bin", b"\0\0", "a.bin' has no header"),
    ("a token too high", TOKENS.format(9, "uint8"), "a.bin", b"\1\0\11\0", "token 9 at position 2"),
    ("a small vocabulary", BPE.format("vocab_size=9"), "a.jsonl", LINES, "is 9: it must be an int"),
)


@pytest.mark.parametrize(
    ("source", "name", "content", "words"),
    [d[1:] for d in OTHER_DATA],
    ids=[d[0] for d in OTHER_DATA],
)
def test_what_is_wrong_with_data_is_named(isoflop, home, source, name, content, words):
    study = mine(source)
    imports = "from model.data.source import TextFiles, TokenArrays\n"
    imports += "from model.data.tokenizer import TrainedBPE\n"
    (home / "mine.py").write_text(imports + study)
    (home / name).write_bytes(content)
    code, _, err = isoflop("data", "mine.py")
    assert code == 2
    assert is_one_line(err), err
    assert words in err
    assert not list((home / "results").rglob("*.npy"))


def test_a_results_folder_that_is_a_file_is_named(isoflop, home):
    (home / "results").write_text("mine")
    for command in ("plan", "run", "status"):
        code, _, err = isoflop(command, "mine.py")
        assert code == 2
        assert is_one_line(err), err
        assert "results" in err
    assert (home / "results").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_results_folder_without_permission_is_named(isoflop, home):
    (home / "results").mkdir(mode=0o500)
    code, _, err = isoflop("run", "mine.py")
    assert code == 2
    assert is_one_line(err), err
    assert "Permission denied" in err


def test_a_full_disk_ends_with_exit_code_74_and_keeps_what_is_finished(isoflop, home, monkeypatch):
    assert isoflop("plan", "mine.py")[0] == 0
    manifest = home / "results" / "mine" / "manifest.json"
    before = manifest.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "fsync", full)
    code, _, err = isoflop("run", "mine.py", "--anyway")
    assert code == 74
    assert is_one_line(err), err
    assert "Free space" in err
    assert manifest.read_bytes() == before
    assert not [p for p in home.rglob(".*") if p.is_file() and p.name != ".lock"]


@pytest.mark.parametrize("damage", ["{", "[]", "", '{"kind": "zipf"}'])
def test_a_damaged_manifest_is_named_with_the_way_out(isoflop, home, damage):
    assert isoflop("plan", "mine.py")[0] == 0
    manifest = home / "results" / "mine" / "manifest.json"
    manifest.write_text(damage)
    for command in ("plan", "run"):
        code, _, err = isoflop(command, "mine.py")
        assert code == 2
        assert is_one_line(err), err
        assert "manifest.json" in err
        assert "isoflop data" in err
    assert isoflop("data", "mine.py")[0] == 0
    assert isoflop("plan", "mine.py")[0] == 0


def test_names_with_brackets_are_printed_as_they_are(isoflop, home, capsys):
    assert isoflop("data", "mine.py", "--results", "re[/b]sults [red]")[0] == 0
    assert (home / "re[/b]sults [red]" / "mine" / "manifest.json").exists()


def test_a_damaged_plan_is_named(isoflop, home):
    (home / "results" / "mine").mkdir(parents=True)
    (home / "results" / "mine" / "plan.jsonl").write_text("{}\n")
    code, _, err = isoflop("status", "mine.py")
    assert code == 2
    assert is_one_line(err), err
    assert "plan.jsonl" in err


@pytest.mark.parametrize(
    "which", ["tokens", pytest.param("devices", marks=pytest.mark.slow(reason="as tokens"))]
)
def test_what_only_a_worker_can_see_is_refused_before_training_starts(home, which):
    # Two devices on a machine that shows one; tokens that are not those described.
    mesh = "mesh=1,2,1,1" if which == "devices" else "mesh=1,1,1,1"
    if which == "tokens":
        (home / "texts").mkdir()
        for i in range(20):
            (home / "texts" / f"{i}.txt").write_text(f"document {i} " * 200)
        (home / "mine.py").write_text(mine(TEXT.format("texts")))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}

    def run(command):
        env = clean | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(home)}
        asked = (*command, "mine.py", mesh, "recipe.batch.multiple=2")
        return command_line.isoflop(*asked, cwd=home, env=env, timeout=120)

    done = run(["data"])
    assert done.returncode == 0, done.stderr
    if which == "tokens":
        tokens = home / "results" / "mine" / "data" / "train.npy"
        content = bytearray(tokens.read_bytes())
        content[-5] ^= 1
        tokens.write_bytes(content)
    done = run(["run", "--anyway"])
    assert done.returncode == 2
    assert is_one_line(done.stderr), done.stderr
    assert ("devices" if which == "devices" else "changed") in done.stderr
    assert not list(home.rglob("result.json"))
    endings = [path.read_text() for path in home.rglob("attempts/*.json")]
    assert all('"how":"refused"' in ending for ending in endings), "it does not count as a failure"
    assert len(endings) == (which == "devices")
    assert json.loads((home / "results" / "mine" / "manifest.json").read_text())
