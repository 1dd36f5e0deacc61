# SPDX-License-Identifier: Apache-2.0
"""One process at a time; where that cannot be, the way out is named."""

import errno

import pytest

from experiments.files import hold as hold_module
from experiments.files.hold import hold


def test_a_file_system_without_locks_is_named_with_a_way_out(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(hold_module.fcntl, "flock", flock)
    with (
        pytest.raises(ValueError, match=r"has no locks .*Keep results on a local disk"),
        hold(tmp_path / "a" / ".lock"),
    ):
        pass


def test_nobody_waits_for_what_was_let_go(tmp_path):
    for _ in range(2):
        with hold(tmp_path / ".lock", lambda: pytest.fail("it waits")):
            pass
