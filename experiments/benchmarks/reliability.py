# SPDX-License-Identifier: Apache-2.0
"""make bench-reliability: the proofs that a grid loses nothing, by command, and what they counted.

Runs the tests of each proof and writes results/benchmarks/reliability.json and reliability.md:
kills, resumes, faults, damaged files, losses, seconds from a request to end to the end, and what
the ledger costs per run. A figure is what a test recorded (record_property, or a line
"| name | number |" of its summary); a skipped test is shown with its reason. Of a proof that is not
asked for (--proofs) what was found before is kept, with the commit that it was found at.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.benchmarks.record import FOLDER, facts, made_by, write
from experiments.files import markdown
from experiments.machine.provenance import code_facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """Tests that show one thing.

    Attributes:
      title: what they show.
      tests: files, or folders, below tests/.
      marks: which of their tests, as pytest's -m.
    """

    title: str
    tests: tuple[str, ...]
    marks: str = ""


CHAOS, EXECUTORS = "experiments/chaos", "experiments/executors"
PROOFS = {
    1: Proof(
        title="SIGKILL at random moments of a real grid, two runners on one folder",
        tests=(f"{CHAOS}/test_kills.py",),
    ),
    2: Proof(
        title="a fault at every call that changes the disk, then a restart",
        tests=(f"{CHAOS}/test_faults.py",),
    ),
    3: Proof(
        title="every file cut, emptied, deleted, or with one bit flipped",
        tests=(f"{CHAOS}/test_damage.py", "model/training/test_checkpoint.py"),
    ),
    4: Proof(
        title="full disk, read-only folder, SIGTERM while training and compiling",
        tests=(f"{CHAOS}/test_stops.py",),
    ),
    5: Proof(
        title="zombies, wrong clocks, owners on another host", tests=(f"{CHAOS}/test_zombies.py",)
    ),
    6: Proof(
        title="a real Slurm: arrays, preemption, requeue, lost nodes, two-node runs",
        tests=(EXECUTORS,),
        marks="slurm",
    ),
    7: Proof(
        title="fuzzed specs, overrides and ids; payloads in names and notes",
        tests=(
            *("experiments/test_fuzzed_inputs.py", "experiments/test_escaping.py"),
            "experiments/files/test_strict_json.py",
        ),
    ),
    8: Proof(
        title="diverged, failed and missing runs: in the table, out of the fits, in words",
        tests=("experiments/report/test_missing_runs.py",),
    ),
    9: Proof(
        title="what the ledger costs, with a trainer that returns at once",
        tests=(f"{CHAOS}/test_overhead.py",),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proofs", type=int, nargs="*", default=list(PROOFS), choices=PROOFS)
    options = parser.parse_args()
    before = FOLDER / "reliability.json"
    proofs = json.loads(before.read_text())["proofs"] if before.exists() else {}
    for number in options.proofs:
        proofs[str(number)] = _prove(PROOFS[number])
        print(json.dumps({number: proofs[str(number)]}), flush=True)
    record = facts("make bench-reliability") | {"proofs": dict(sorted(proofs.items()))}
    write("reliability", record, _page(record))
    print(_page(record))
    sys.exit(any(proof["failed"] for proof in proofs.values()))


def _prove(proof: Proof) -> dict[str, Any]:
    """Outcomes, seconds and figures of a proof's tests."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-m", proof.marks]
        command += ["-k", "not in_short"]  # The long form of a test is there too.
        command += [f"--junitxml={report}", f"--basetemp={folder}/tests"]
        command += [f"tests/{name}" for name in proof.tests]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        cases = list(ElementTree.parse(report).iter("testcase"))
    said = re.findall(r"^\| (.+) \| ([\d.]+) \|$", done.stdout, re.MULTILINE)
    figures = [(p.get("name"), p.get("value")) for case in cases for p in case.iter("property")]
    bad = [case for case in cases if list(case.iter("failure")) or list(case.iter("error"))]
    if bad:
        print(done.stdout, file=sys.stderr)
    return {
        "title": proof.title,
        "git_commit": code_facts()["git_commit"],
        "passed": len(cases) - len(bad) - len(list(_skips(cases))),
        "failed": len(bad),
        "skipped": sorted(set(_skips(cases))),
        "seconds": round(time.perf_counter() - began),
        "figures": _added([*figures, *said]),
    }


def _skips(cases: list[ElementTree.Element]) -> list[str]:
    return [skip.get("message", "") for case in cases for skip in case.iter("skipped")]


def _added(figures: list[Any]) -> dict[str, float]:
    """Counts of one name add up."""
    total: dict[str, float] = {}
    for name, text in figures:
        value = float(text)
        value = int(value) if value.is_integer() else value
        total[name] = round(total.get(name, 0) + value, 2)
    return total


def _page(record: dict[str, Any]) -> str:
    rows, figures = [], []
    for number, proof in record["proofs"].items():
        outcome = (proof["passed"], proof["failed"], len(proof["skipped"]), proof["seconds"])
        rows.append((number, proof["title"], *outcome, proof["git_commit"][:7]))
        figures += [(number, n.replace("_", " "), v) for n, v in proof["figures"].items()]
        figures += [(number, f"skipped: {reason}", "") for reason in proof["skipped"]]
    heads = ("proof", "", "passed", "failed", "skipped", "seconds", "commit")
    lines = ["# Reliability", "", made_by(record), "", *markdown.table(heads, rows)]
    lines += ["", *markdown.table(("proof", "figure", "value"), figures)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
