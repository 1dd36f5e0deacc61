# SPDX-License-Identifier: Apache-2.0
"""Whether activations and their updates keep their size with the network.

If they do, the recipe's rates serve every width and depth (Yang et al. 2022, arXiv:2203.03466,
appendix D; Dey et al. 2025, arXiv:2505.01618, for depth). Every width is trained at the recipe's
base depth, and every depth at its base width, for a few steps at the peak rate, without warm-up.
"""

import time
from pathlib import Path

from rich.console import Console

from experiments.checks.coordinates.cases import N_SEQUENCES, Networks, run_cases
from experiments.executors.local_devices import worker_places
from experiments.ledger.ledger import Ledger
from experiments.machine.jax_setup import cache_folder
from experiments.machine.provenance import device_facts, software_facts
from experiments.study.study import Study
from model.data.manifest import Manifest


def coordinate_check(
    study: Study,
    ledger: Ledger,
    *,
    manifest: Manifest,
    networks: Networks,
    out: Path | None,
    command: str,
    console: Console,
) -> None:
    """Measures, prints the verdicts, and writes the table, the page and the figure.

    Args:
      out: their folder; None for the study's.
      command: what gives the same answer again, for the page.
    """
    began = time.monotonic()
    from experiments.machine.jax_setup import start_jax

    start_jax(worker_places(1, 1, 1)[0].cores, cache_folder())
    from experiments.checks.coordinates.measure import measure
    from experiments.checks.coordinates.page import show, write
    from experiments.checks.coordinates.slopes import answer
    from model.data.corpus import open_corpus

    corpus = open_corpus(manifest, ledger.data)
    cases = []
    for case in run_cases(
        study, manifest, networks=networks, measure=lambda spec: measure(spec, corpus, N_SEQUENCES)
    ):
        console.print(f"{case.parameterization}, width {case.d_model}, depth {case.n_layers}: done")
        cases.append(case)
    found = answer(study.recipe, networks, cases)
    show(found, console)
    about: dict[str, str | int] = {
        "command": command,
        "seconds": round(time.monotonic() - began),
        "device": device_facts()["device"],
        **software_facts(),
    }
    for path in write(found, out or ledger.folder, about):
        console.print(str(path))
