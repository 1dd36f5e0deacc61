# SPDX-License-Identifier: Apache-2.0
"""Who may import whom, what planning must do without, and what no file may contain."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    path for name in ("model", "scaling", "experiments") for path in (ROOT / name).rglob("*.py")
]
HEAVY = ("jax", "jaxlib", "flax", "optax", "orbax", "grain", "scipy", "matplotlib", "pyarrow")

FORBIDDEN = (
    ("scaling/", ("model", "experiments", "flax", "optax", "orbax", "grain"), ()),
    ("model/", ("scaling", "experiments"), ()),
    ("model/data/", ("model.training",), ()),
    ("model/counts/", ("model.training", "jax", "numpy"), ()),
    ("model/mixers/", ("model.training",), ()),
    ("model/channel_mixers/", ("model.training",), ()),
    (
        "experiments/",
        ("model.training.loop", "model.training.step"),
        (
            *("worker.py", "calibrate.py", "coordinates.py", "compile_programs.py"),
            *("ours.py", "small.py", "parts.py", "compiled.py", "pack_speed.py"),
            "saving.py",
        ),
    ),
    ("experiments/studies/", ("scaling", "numpy", "jax"), ()),
)

LIGHT = """
import importlib, pkgutil, sys
for name in {heavy}:
    sys.modules[name] = None
for name in ("model.config", "model.counts.total", "model.parameterization", "model.sharding",
             "model.hardware",
             "model.training.config", "model.training.control", "model.training.checkpoint_files",
             "model.data.source", "model.data.manifest",
             "experiments.study", "experiments.plan", "experiments.point", "experiments.ledger",
             "experiments.cli"):
    importlib.import_module(name)
import experiments.studies
for module in pkgutil.iter_modules(experiments.studies.__path__):
    importlib.import_module("experiments.studies." + module.name)
from experiments.cli import main
main(["plan", {study!r}, "--results", {results!r}])
from experiments.cli import load_study
from experiments.ledger import Ledger
from experiments.plan import plan
from experiments.point import to_json
from model.data.manifest import Manifest
study = load_study({study!r})
ledger = Ledger({results!r}, study.name)
ledger.write_plan("{{}}", list(plan(study, Manifest.read(ledger.manifest)).points))
for command in ("status", "retry", "gc", "doctor"):
    main([command, {study!r}, "--results", {results!r}])
main(["export", {study!r}, "--results", {results!r}, "--out", {results!r} + "/all.csv"])
"""

ZIPF_STUDY = """
import dataclasses
from experiments.studies.quickstart import STUDY
from model.data.source import Zipf
source = Zipf(alpha=0.5, epsilon=0.1, base=8, n_digits=2, n_answers=1, language_seed=0)
STUDY = dataclasses.replace(STUDY, name="light", data=source)
"""


def imported(path: Path) -> set[str]:
    """Names of the modules that a file imports anywhere, relative imports refused."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def breaks(names: set[str], forbidden: tuple[str, ...]) -> list[str]:
    return [n for n in sorted(names) if any(n == f or n.startswith(f + ".") for f in forbidden)]


@pytest.mark.parametrize(("folder", "forbidden", "allowed"), FORBIDDEN, ids=lambda x: str(x))
def test_imports_flow_one_way(folder, forbidden, allowed):
    files = [p for p in FILES if p.relative_to(ROOT).as_posix().startswith(folder)]
    assert files
    bad = {p.name: breaks(imported(p), forbidden) for p in files if p.name not in allowed}
    assert {name: names for name, names in bad.items() if names} == {}


def test_executors_need_the_standard_library_only():
    files = list((ROOT / "experiments" / "executors").glob("*.py"))
    assert len(files) >= 4
    for path in files:
        for name in imported(path):
            is_ours = name.startswith("experiments.executors.")
            assert is_ours or name.split(".")[0] in sys.stdlib_module_names, f"{path}: {name}"


def test_only_the_parameterization_knows_of_training_and_only_its_configuration():
    for path in (ROOT / "model").glob("*.py"):
        found = breaks(imported(path), ("model.training",))
        expected = path.name == "parameterization.py"
        assert all(n.startswith("model.training.config") for n in found), path.name
        assert bool(found) == expected, path.name


def test_asking_planning_and_status_need_no_jax_scipy_or_matplotlib(tmp_path):
    study = tmp_path / "light.py"
    study.write_text(ZIPF_STUDY)
    script = LIGHT.format(heavy=HEAVY, study=str(study), results=str(tmp_path / "results"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0 of " in done.stdout


def test_every_file_has_its_licence_line_and_a_name_that_says_what_it_does():
    everything = [*FILES, *(ROOT / "tests").rglob("*.py")]
    for path in everything:
        first = path.read_text().splitlines()[:1]
        if path.name == "__init__.py" and not path.read_text():
            continue
        assert first == ["# SPDX-License-Identifier: Apache-2.0"], path
        assert path.stem not in ("utils", "util", "common", "helpers", "misc"), path
    for path in FILES:
        if path.name == "__init__.py":
            assert path.read_text().count("\n") <= 1, path


def test_nothing_read_from_disk_can_run_code():
    for path in FILES:
        assert not breaks(imported(path), ("pickle", "dill", "marshal", "shelve", "yaml")), path
        calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        assert not names & {"eval", "exec", "compile", "__import__"}, path
