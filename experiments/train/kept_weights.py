# SPDX-License-Identifier: Apache-2.0
"""The final weights of a job's runs, written as training hands them over.

A file holds float32 numbers as they are trained, and in its metadata the run's id, the version of
the format and the network's configuration: with it alone the network can be built again.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from experiments.files.safetensors_file import header
from experiments.ledger.ledger import Ledger
from experiments.plan.point import Point, to_json

if TYPE_CHECKING:  # A worker has no NumPy, and no thread of it, until it watches for signals.
    from model.network.weight_names import Tensor

FORMAT = "1"
Take = Callable[[bytes], None]


class KeptWeights:
    """Writes runs/ID/weights.safetensors, whole or not at all.

    Attributes:
      sha256: digests of the files that were written, by run id.

    Args:
      points: the runs, in the order in which they are trained.
      check: called before a file gets its name; raises if it should not.
    """

    def __init__(self, ledger: Ledger, points: Sequence[Point], check: Callable[[], None]):
        self._ledger, self._points, self._check = ledger, points, check
        self.sha256: dict[str, str] = {}

    @contextlib.contextmanager
    def __call__(self, run: int, tensors: "Sequence[Tensor]") -> Iterator[Take]:
        """What takes the bytes of a run's tensors, in their order."""
        point = self._points[run]
        model = to_json(point.spec.model)
        about = {"isoflop_weights": FORMAT, "spec_id": point.id, "model": model}
        total = hashlib.sha256()
        with self._ledger.writing_weights(point.id) as write:

            def take(part: bytes) -> None:
                total.update(part)
                write(part)

            take(header(tensors, about))
            yield take
            self._check()
        self.sha256[point.id] = total.hexdigest()
