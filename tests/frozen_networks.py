# SPDX-License-Identifier: Apache-2.0
"""What others computed of a network, kept for tests that run without them."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from model.network.config import ModelConfig


def assert_frozen(path: Path, theirs: Mapping[str, np.ndarray]) -> None:
    """That the file holds what they compute now: the same network, whether or not it names fields
    that are at their defaults, and arrays within 1e-5. Written where there is none.

    Args:
      theirs: arrays by name, and as "config" the network's configuration in JSON.
    """
    if not path.exists():
        np.savez_compressed(path, **theirs)
    frozen = np.load(path, allow_pickle=False)
    assert set(frozen) == set(theirs)
    before, now = (
        msgspec.json.decode(str(one["config"]), type=ModelConfig) for one in (frozen, theirs)
    )
    assert before == now
    for key in set(theirs) - {"config"}:
        np.testing.assert_allclose(frozen[key], theirs[key], rtol=0, atol=1e-5, err_msg=key)
