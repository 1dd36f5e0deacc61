# SPDX-License-Identifier: Apache-2.0
"""Oracle: real git folders."""

import hashlib
import os
import shutil
import subprocess

import pytest

from experiments.machine import provenance
from experiments.machine.provenance import code_facts, device_facts, software_facts


@pytest.fixture
def git(tmp_path):
    """A repository that holds the packages, and a function that runs git there."""

    def run(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    for folder in ("model", "scaling", "experiments/machine", "notes"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.py").write_text("a = 1\n")
    (tmp_path / "experiments" / "machine" / "provenance.py").write_text("")
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    run("init", "-q")
    run("add", ".")
    run("commit", "-qm", "first")
    return run


def facts(root):
    code_facts.cache_clear()
    found = code_facts(root)
    code_facts.cache_clear()
    return found


def test_a_clean_checkout_is_its_commit(git, tmp_path):
    assert facts(tmp_path)["git_commit"] == git("rev-parse", "HEAD")
    assert facts(tmp_path)["git_dirty_sha256"] == ""


CHANGES = (
    ("a changed file", lambda root: (root / "model" / "a.py").write_text("a = 2\n")),
    ("another change", lambda root: (root / "model" / "a.py").write_text("a = 3\n")),
    ("a deleted file", lambda root: (root / "model" / "a.py").unlink()),
    ("a new file", lambda root: (root / "scaling" / "new.py").write_text("")),
    ("a new file elsewhere", lambda root: (root / "model" / "new.py").write_text("")),
    ("a new file's content", lambda root: (root / "model" / "new.py").write_text("b = 1\n")),
    ("a name that git quotes", lambda root: (root / "model" / 'ü"\n.py').write_text("")),
    ("a renamed file", lambda root: (root / "model" / "a.py").rename(root / "model" / "b.py")),
)


def test_every_change_of_the_code_has_a_digest_of_its_own(git, tmp_path):
    seen = {""}
    for name, change in CHANGES:
        change(tmp_path)
        found = facts(tmp_path)["git_dirty_sha256"]
        assert found not in seen, name
        assert found == facts(tmp_path)["git_dirty_sha256"], name
        seen.add(found)
        git("reset", "-q", "--hard")
        git("clean", "-qfd")
    assert facts(tmp_path)["git_dirty_sha256"] == ""


def test_what_is_staged_counts_like_what_is_not(git, tmp_path):
    (tmp_path / "model" / "a.py").write_text("a = 2\n")
    (tmp_path / "model" / "new.py").write_text("")
    before = facts(tmp_path)
    git("add", ".")
    assert facts(tmp_path) == before


def test_notes_results_and_ignored_files_are_no_code(git, tmp_path):
    (tmp_path / "notes" / "a.py").write_text("a = 2\n")
    (tmp_path / "notes" / "new.py").write_text("")
    (tmp_path / "model" / "ignored.py").write_text("")
    (tmp_path / "model" / "data.txt").write_text("")
    assert facts(tmp_path)["git_dirty_sha256"] == ""


def test_an_installed_copy_is_known_by_its_version(git, tmp_path):
    # Inside somebody else's repository, as an environment often is: that commit is not ours.
    (tmp_path / "site-packages" / "experiments").mkdir(parents=True)
    (tmp_path / "site-packages" / "experiments" / "provenance.py").write_text("")
    found = facts(tmp_path / "site-packages")
    assert found["git_commit"] == found["git_dirty_sha256"] == ""
    assert found["version_isoflop"]


def test_a_machine_without_git_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("git") is None
    assert facts(provenance.ROOT)["git_commit"] == ""


def test_git_is_asked_once_per_process(monkeypatch):
    software_facts()
    monkeypatch.setattr(provenance.subprocess, "run", None)
    software_facts()


def test_flags_are_recorded_and_secrets_and_paths_are_not():
    environ = {
        "XLA_FLAGS": "--xla_x",
        "JAX_ENABLE_X64": "1",
        "JAX_COMPILATION_CACHE_DIR": "/home/somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    found = software_facts(environ)
    assert found["xla_flags"] == "--xla_x"
    assert found["environment"] == "JAX_ENABLE_X64=1"
    assert "somebody" not in str(found)
    assert "secret" not in str(found)
    assert found["version_jax"]


def test_devices_of_this_process():
    found = device_facts()
    assert (found["platform"], found["n_devices"], found["n_processes"]) == ("cpu", 8, 1)
    assert found["device"]
    assert 1 <= found["n_cores"] <= os.cpu_count()


def test_the_digest_is_that_of_path_and_content(git, tmp_path):
    (tmp_path / "model" / "a.py").write_text("a = 2\n")
    content = hashlib.sha256(b"a = 2\n").hexdigest()
    expected = hashlib.sha256(f"model/a.py\0{content}\n".encode()).hexdigest()
    assert facts(tmp_path)["git_dirty_sha256"] == expected
