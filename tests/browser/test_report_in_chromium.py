# SPDX-License-Identifier: Apache-2.0
"""The report of a small real study, opened in headless Chromium (make test-browser)."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from command_line import isoflop
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: make test-browser installs it"),
]

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
)
STUDY = """
import dataclasses
from experiments.studies.zipf_truth import STUDY as truth
from experiments.study.study import Ladder
STUDY = dataclasses.replace(
    truth, name="page", budgets=(1e9, 3e9), seeds=(0, 1), question="<b>escaped</b>?",
    sizes=Ladder(d_models=(8, 12, 16, 24), tokens_per_param=(0.2, 400.0)),
)
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "study.py").write_text(STUDY)
    isoflop("run", "study.py", "--results", "results", cwd=folder, check=True)
    return folder / "results" / "page" / "report.html"


def chromium(page, tmp_path, *flags):
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM, *FLAGS, profile, *flags, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)


def test_the_page_is_read_without_errors_and_its_text_is_escaped(page, tmp_path):
    done = chromium(page, tmp_path, "--enable-logging=stderr", "--dump-dom")
    assert "CONSOLE" not in done.stderr, done.stderr
    headings = re.findall(r"<h2>(.*?)</h2>", done.stdout)
    assert headings[0] == "Answer"
    assert {"Figures", "Cost", "Runs", "Recipe", "Data", "Versions and hardware"} <= set(headings)
    assert "&lt;b&gt;escaped&lt;/b&gt;?" in done.stdout


def test_the_figures_are_drawn(page, tmp_path):
    picture = tmp_path / "page.png"
    chromium(page, tmp_path, "--window-size=1200,4000", f"--screenshot={picture}")
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    # Text is grey; only figures have saturated colours.
    saturation = pixels.max(axis=-1).astype(int) - pixels.min(axis=-1)
    assert (saturation > 80).sum() > 2000
