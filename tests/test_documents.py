# SPDX-License-Identifier: Apache-2.0
"""What the documents name exists: files, links, make targets, commands, options, Python names."""

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.cli.main import COMMANDS
from experiments.plan.plan import plan
from model.data.manifest import Manifest
from model.data.source import source_to_dict
from model.network.counts.kinds import MIXERS

ROOT = Path(__file__).parents[1]
PACKAGES = ("model", "experiments", "scaling")
PAGES = (
    *(
        "README.md",
        "CONTRIBUTING.md",
        "results/README.md",
        "scaling/EXAMPLES.md",
        "model/EVIDENCE.md",
        "model/MIXERS.md",
    ),
    *(f"{package}/README.md" for package in PACKAGES),
    *(f"experiments/{task}.md" for task in ("STUDIES", "CLUSTERS", "SAVING", "CHECKS", "WEIGHTS")),
)
# Least and most lines.
LENGTHS = {"README.md": (60, 110)} | {f"{package}/README.md": (30, 60) for package in PACKAGES}

LINK = re.compile(r"\]\(([^)#]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
BLOCK = re.compile(r"^    (\S.*)$", re.MULTILINE)
PATH = re.compile(r"[\w.-]+(/[\w.-]+)*(\.(py|md|csv|cff|toml|txt)|/)")
IMPORT = re.compile(rf"from ((?:{'|'.join(PACKAGES)})[\w.]*) import ([\w, ]+)")
# What a reader has, not we.
THEIRS = re.compile(
    r"my_|runs\.csv|before\.csv|after\.csv|all\.csv|table\.csv|contexts\.csv|/venv/|results/STUDY"
)


def commands(text: str) -> Iterator[list[str]]:
    """Every command of a page, in words, without its comment."""
    for line in [*CODE.findall(text), *BLOCK.findall(text)]:
        yield line.split("  #")[0].split()


def missing_paths(text: str, folder: Path) -> set[str]:
    """Links, and paths in backticks, that lie neither beside the page nor below the root."""
    links = {link for link in LINK.findall(text) if "://" not in link}
    paths = {code for code in CODE.findall(text) if PATH.fullmatch(code)}
    named = {name for name in links | paths if not THEIRS.search(name)}
    return {n for n in named if not (folder / n).exists() and not (ROOT / n).exists()}


def unknown_commands(text: str) -> set[str]:
    """Make targets, subcommands and options of isoflop, and modules, that are not there."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    unknown = set()
    for words in commands(text):
        match words:
            case ["make", target, *_] if re.fullmatch("[a-z-]+", target) and target not in targets:
                unknown.add(f"make {target}")
            case ["isoflop", command, *_] if command.islower() and command not in COMMANDS:
                unknown.add(f"isoflop {command}")
            case ["isoflop", command, *rest] if command in COMMANDS:
                flags = {word.partition("=")[0] for word in rest if word.startswith("--")}
                unknown |= {f"isoflop {command} {flag}" for flag in flags - options(command)}
            case ["python", "-m", name, *_] if name.startswith(PACKAGES) and not source_of(name):
                unknown.add(name)
    return unknown


def options(command: str) -> set[str]:
    """Flags of a subcommand of isoflop."""
    parser = argparse.ArgumentParser()
    module = importlib.import_module(f"experiments.cli.{command.replace('-', '_')}")
    module.add_arguments(parser)
    return set(re.findall(r"--[\w-]+", parser.format_help()))


def source_of(module: str) -> str:
    """Text of a module's file; empty where there is none."""
    path = ROOT / f"{module.replace('.', '/')}.py"
    return path.read_text() if path.exists() else ""


def missing_names(text: str) -> set[str]:
    """Names that a page imports from files that do not have them."""
    return {
        f"{module}.{name.strip()}"
        for module, names in IMPORT.findall(text)
        for name in names.split(",")
        if not source_of(module) or not hasattr(importlib.import_module(module), name.strip())
    }


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_exists(page):
    text = (ROOT / page).read_text()
    assert missing_paths(text, (ROOT / page).parent) == set()
    assert unknown_commands(text) == set()
    assert missing_names(text) == set()


@pytest.mark.parametrize(("page", "lengths"), LENGTHS.items())
def test_a_readme_can_be_read_in_its_time(page, lengths):
    least, most = lengths
    assert least <= len((ROOT / page).read_text().splitlines()) <= most


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ("`model/nothing.py`", {"model/nothing.py"}),
        ("[a page](results/none.md)", {"results/none.md"}),
        ("    make nothing  # a comment", {"make nothing"}),
        ("`isoflop nothing`", {"isoflop nothing"}),
        ("    isoflop plan my_study.py --nothing 3", {"isoflop plan --nothing"}),
        ("`python -m experiments.nothing`", {"experiments.nothing"}),
        ("from scaling.tables.runs import nothing", {"scaling.tables.runs.nothing"}),
    ],
)
def test_what_is_not_there_is_found(wrong, found):
    checks = missing_paths(wrong, ROOT) | unknown_commands(wrong) | missing_names(wrong)
    assert checks == found


@pytest.mark.parametrize(
    "page", sorted((ROOT / "results" / "benchmarks").rglob("*.md")), ids=lambda page: page.stem
)
def test_a_measured_page_links_what_exists_and_a_note_says_when_and_by_which_program(page):
    text = page.read_text()
    assert {link for link in LINK.findall(text) if not (page.parent / link).exists()} == set()
    if page.parent.name == "notes":
        first = (
            r"Measured on \d{4}-\d\d-\d\d with commit ([0-9a-f]{7}) by .*`git show \1:[\w/.]+`.*"
        )
        assert re.fullmatch(first, text.splitlines()[0])


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:[.:]\d+)*", text.replace(",", "")))


def figures(text: str) -> Iterator[tuple[str, str]]:
    """What the README claims, and the page that it names beside it."""
    yield from re.findall(
        r"^\|[^|]*\|([^|]*)\| \[[^]]*\]\((results/[^)]*)\) \|$", text, re.MULTILINE
    )
    yield from re.findall(r"(54 runs .*?)\[[^]]*\]\((results/[^)]*)\)", text, re.DOTALL)


def test_every_figure_of_the_readme_stands_on_the_page_beside_it():
    claims = list(figures((ROOT / "README.md").read_text()))
    assert len(claims) > 10
    wrong = {
        claim: numbers(claim) - numbers((ROOT / page).read_text())
        for claim, page in claims
        if not numbers(claim) <= numbers((ROOT / page).read_text())
    }
    assert wrong == {}


def test_every_kind_of_mixer_has_its_row():
    text = (ROOT / "model" / "MIXERS.md").read_text()
    rows = re.findall(r"^\|[^|]*\|[^|]*:[^|]*\| `(\w+)`", text, re.MULTILINE)
    kinds = [kind.__struct_config__.tag for kind in MIXERS]
    assert sorted(rows) == sorted(kinds), "MIXERS.md and counts/kinds.py have the same"


def test_the_studies_that_are_shown_can_be_planned():
    text = (ROOT / "experiments" / "STUDIES.md").read_text()
    session: dict = {}
    n_studies = 0
    for shown in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(shown, session)
        if "STUDY" in session:
            plan_is_whole(session.pop("STUDY"))
            n_studies += 1
    assert n_studies >= 2


def plan_is_whole(study):
    manifest = Manifest(
        kind=study.data.kind,
        fingerprint="ab" * 32,
        vocab_size=256,
        n_documents=10_000,
        n_train_documents=9_800,
        n_validation_documents=200,
        n_bytes=10**10,
        n_train_tokens=98 * 10**8,
        n_validation_tokens=2 * 10**8,
        bytes_per_token=1.0,
        entropy_nats=None,
        window_multiple=1,
        notes=(),
        source=source_to_dict(study.data),
    )
    points = plan(study, manifest).points
    assert {point.budget for point in points if point.role == "grid"} == set(study.budgets)
