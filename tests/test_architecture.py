# SPDX-License-Identifier: Apache-2.0
"""Who may import whom, what planning must do without, and what no file may contain.

A room is a folder below `model/`, `scaling/` or `experiments/`; the files beside the folders are a
room of their own, named after the package. A room imports rooms of lower floors only, so that no
cycle can arise.
"""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator, Set
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("model", "scaling", "experiments")

# Ground floor first.
FLOORS = (
    ("experiments/executors", "experiments/files", "model", "scaling/tables"),
    ("experiments/machine", "experiments/terminal", "model/data", "model/network", "scaling"),
    ("model/training", "scaling/laws"),
    ("experiments/study", "scaling/solve", "scaling/uncertainty"),
    ("experiments/plan", "experiments/recipes", "scaling/approaches"),
    (
        *("experiments/ledger", "experiments/studies", "scaling/answers", "scaling/design"),
        *("scaling/hyperparameters", "scaling/profiles"),
    ),
    ("experiments/speed", "scaling/plots", "scaling/schedules"),
    ("experiments/cost", "experiments/train", "experiments/weights", "scaling/published"),
    ("experiments", "experiments/checks", "experiments/report"),
    ("experiments/adaptive", "experiments/fit_tables", "experiments/operations"),
    ("experiments/cli",),
    ("experiments/benchmarks",),
)

# A room, and what it may not import, from this project or from others.
FORBIDDEN = (
    ("scaling", ("model", "experiments", "flax", "optax", "orbax", "grain")),
    ("model", ("scaling", "experiments")),
    ("model/network/counts", ("jax", "numpy")),
    ("experiments/recipes", ("scaling", "numpy", "jax")),
    ("experiments/studies", ("scaling", "numpy", "jax")),
    ("experiments/executors", ("model", "rich", "numpy", "jax")),
    # It takes half a second to import, of the three that a fit may take.
    *((room, ("scipy.stats",)) for room in ("scaling/laws", "scaling/solve", "scaling/approaches")),
    *((room, ("scipy.stats",)) for room in ("scaling/answers", "scaling/uncertainty")),
)

# Only these may load the training loop or its step: they are processes of their own.
TRAINERS = (
    *("experiments", "experiments/speed", "experiments/checks", "experiments/benchmarks"),
    "experiments/weights",
)

# Asking, planning and looking work on a machine without JAX, in a fraction of a second.
WITHOUT_JAX = (
    *("experiments/recipes", "experiments/study", "experiments/studies", "experiments/plan"),
    *("experiments/ledger", "experiments/operations", "experiments/cost", "experiments/files"),
    *("experiments/executors", "experiments/terminal", "experiments/cli", "model/network/counts"),
)
HEAVY = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax",
    "grain",
    "scipy",
    "matplotlib",
    "pyarrow",
    "bokeh",
)

MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 80

LIGHT = """
import importlib, sys
for name in {heavy}:
    sys.modules[name] = None
for name in {modules}:
    importlib.import_module(name)
from experiments.cli.opening.load_study import load_study
from experiments.cli.main import main
# How wide intervals will be asks scipy for Student's t, when the grid is known.
blocked = [name for name in sys.modules if name.partition(".")[0] == "scipy"]
for name in blocked:
    del sys.modules[name]
main(["plan", {study!r}, "--results", {results!r}])
for name in [name for name in sys.modules if name.partition(".")[0] == "scipy"]:
    sys.modules[name] = None
from experiments.ledger.ledger import Ledger
from experiments.plan.plan import plan
from experiments.plan.point import to_json
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


def files(root: Path) -> list[Path]:
    return sorted(path for name in PACKAGES for path in (root / name).rglob("*.py"))


def room_of(path: Path, root: Path) -> str:
    package, *folders = path.relative_to(root).parts[:-1]
    return "/".join([package, *folders[:1]])


def module_of(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts)


class Facts(NamedTuple):
    """What the tests ask of a file: names that it imports anywhere, names that it calls, and the
    lines of its functions."""

    imported: frozenset[str]
    called: frozenset[str]
    functions: tuple[tuple[str, int], ...]


def facts(path: Path) -> Facts:
    return facts_of(path.read_text(), path)


@functools.cache
def facts_of(text: str, path: Path) -> Facts:
    """Read once for all tests; relative imports are refused."""
    names: set[str] = set()
    called: set[str] = set()
    functions = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called.add(node.func.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.append((node.name, (node.end_lineno or 0) - node.lineno + 1))
    return Facts(frozenset(names), frozenset(called), tuple(functions))


def imported(path: Path) -> frozenset[str]:
    return facts(path).imported


def upward(root: Path) -> Iterator[str]:
    """Every file outside the rooms, and every import that does not lead down, in words."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    room = {module_of(path, root): room_of(path, root) for path in files(root)}
    for path in files(root):
        mine = room_of(path, root)
        if mine not in floor:
            yield f"{path.relative_to(root)} is in {mine}, which is no room of FLOORS"
            continue
        for name in sorted(imported(path) & set(room)):
            theirs = room[name]
            if theirs != mine and floor.get(theirs, -1) >= floor[mine]:
                yield f"{path.relative_to(root)} imports {name} of {theirs}, not below {mine}"


def breaks(names: Set[str], forbidden: tuple[str, ...]) -> list[str]:
    return [n for n in sorted(names) if any(n == f or n.startswith(f + ".") for f in forbidden)]


def test_every_file_lies_in_a_room_and_imports_lead_down():
    assert list(upward(ROOT)) == []


def test_every_room_of_the_table_exists():
    rooms = {room_of(path, ROOT) for path in files(ROOT)}
    assert {room for rooms_ in FLOORS for room in rooms_} == rooms


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"experiments/plan/a.py": "from experiments.cli import b"}, "imports experiments.cli.b"),
        ({"scaling/laws/a.py": "import experiments.cli.b"}, "imports experiments.cli.b"),
        (
            {
                "experiments/adaptive/a.py": "from experiments.operations.b import c",
                "experiments/operations/b.py": "from experiments.adaptive import a",
            },
            "imports experiments.operations.b",
        ),
        ({"experiments/attic/a.py": ""}, "is in experiments/attic, which is no room"),
        ({"model/attic/deep/a.py": ""}, "is in model/attic, which is no room"),
    ],
)
def test_an_upward_import_a_cycle_and_a_file_outside_the_rooms_are_named(tmp_path, written, said):
    for name, text in {"experiments/cli/b.py": "", **written}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    first, *_ = upward(tmp_path)
    assert said in first
    assert first.startswith(next(iter(written)))


@pytest.mark.parametrize(("room", "forbidden"), FORBIDDEN, ids=lambda x: str(x))
def test_rooms_do_without(room, forbidden):
    inside = [path for path in files(ROOT) if path.is_relative_to(ROOT / room)]
    assert inside
    bad = {str(path): breaks(imported(path), forbidden) for path in inside}
    assert {name: names for name, names in bad.items() if names} == {}


def test_the_training_loop_is_loaded_where_processes_begin():
    loop = ("model.training.loop", "model.training.program", "model.training.step")
    bad = {
        str(path): breaks(imported(path), loop)
        for path in files(ROOT)
        if path.is_relative_to(ROOT / "experiments") and room_of(path, ROOT) not in TRAINERS
    }
    assert {name: names for name, names in bad.items() if names} == {}


def test_asking_planning_and_looking_need_no_jax_scipy_or_matplotlib(tmp_path):
    study = tmp_path / "light.py"
    study.write_text(ZIPF_STUDY)
    modules = [
        module_of(path, ROOT)
        for path in files(ROOT)
        if any(path.is_relative_to(ROOT / room) for room in WITHOUT_JAX)
    ]
    assert len(modules) > 40
    script = LIGHT.format(
        heavy=HEAVY, modules=modules, study=str(study), results=str(tmp_path / "results")
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0 of " in done.stdout


def test_a_report_of_fits_that_are_kept_loads_no_jax_scipy_or_figures():
    heavy = ("jax", "scipy", "matplotlib.figure", "matplotlib.axes")
    script = (
        "import sys, experiments.report.answer, experiments.report.page.page\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_every_file_has_its_licence_line_and_a_name_that_says_what_it_does():
    everything = [*files(ROOT), *(ROOT / "tests").rglob("*.py")]
    for path in everything:
        first = path.read_text().splitlines()[:1]
        if path.name == "__init__.py" and not path.read_text():
            continue
        assert first == ["# SPDX-License-Identifier: Apache-2.0"], path
        assert path.stem not in ("utils", "util", "common", "helpers", "misc"), path
    for path in files(ROOT):
        # `import scaling` is what a notebook begins with.
        if path.name == "__init__.py" and path.parent != ROOT / "scaling":
            assert path.read_text().count("\n") <= 1, path


def too_long(path: Path) -> Iterator[str]:
    """What of a file is longer than can be read at once."""
    text = path.read_text()
    if (n := len(text.splitlines())) > MOST_LINES:
        yield f"{path.name} has {n} lines"
    for name, n in facts(path).functions:
        if n > MOST_LINES_OF_A_FUNCTION:
            yield f"{path.name}: {name} has {n} lines"


def test_no_file_and_no_function_is_too_long_to_be_read(tmp_path):
    assert [said for path in files(ROOT) for said in too_long(path)] == []
    long = tmp_path / "long.py"
    long.write_text("def f():\n" + "    pass\n" * 300)
    assert list(too_long(long)) == ["long.py has 301 lines", "long.py: f has 301 lines"]


def test_nothing_read_from_disk_can_run_code():
    for path in files(ROOT):
        assert not breaks(imported(path), ("pickle", "dill", "marshal", "shelve", "yaml")), path
        assert not facts(path).called & {"eval", "exec", "compile", "__import__"}, path
