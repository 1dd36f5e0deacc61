# SPDX-License-Identifier: Apache-2.0
"""A report in a headless Chromium, which asks for nothing and complains of nothing."""

import chromium
import pytest


@pytest.fixture
def path(html, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(html)
    return path


@pytest.fixture
def opened(path, tmp_path):
    with chromium.browser(tmp_path / "profile") as browser:
        browser.open(path)
        yield browser
    assert browser.complaints == []
    asked = {address for address in browser.requests if not address.startswith(("data:", "blob:"))}
    assert asked == {path.as_uri()}
