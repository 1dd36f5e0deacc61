# SPDX-License-Identifier: Apache-2.0
"""The page of examples prints what it shows."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def unit_of_last_digit(text: str) -> float:
    mantissa, _, exponent = text.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def differences(printed: str, shown: str) -> list[str]:
    """What differs: words must be equal, numbers to one unit of the last digit shown."""
    if NUMBER.sub("#", printed) != NUMBER.sub("#", shown):
        return [f"printed:\n{printed}\nshown:\n{shown}"]
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    return [
        f"{ours} is shown as {theirs}"
        for ours, theirs in pairs
        if abs(float(ours) - float(theirs)) > 1.001 * unit_of_last_digit(theirs)
    ]


@pytest.mark.slow(reason="half a minute of fits; what the examples call is tested")
def test_every_example_prints_what_is_shown(monkeypatch):
    """Blocks share their names, like a session; the law that one registers is forgotten."""
    from scaling.laws import registry

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(registry, "LAWS", dict(registry.LAWS))
    page = (ROOT / "scaling" / "EXAMPLES.md").read_text()
    blocks = BLOCK.findall(page)
    assert len(blocks) == page.count("```python") >= 9
    session: dict = {}
    for code, shown in blocks:
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            exec(code, session)
        assert differences(stream.getvalue(), shown) == [], code


@pytest.mark.parametrize("wrong", ["a = 1.24", "b = 1.22", "a = 1.22 2"])
def test_a_wrong_digit_or_word_is_found(wrong):
    assert differences("a = 1.22", "a = 1.23") == []
    assert differences("a = 1.22", wrong) != []
