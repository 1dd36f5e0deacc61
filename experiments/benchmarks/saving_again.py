# SPDX-License-Identifier: Apache-2.0
"""make bench-saving-again: the ways of make bench-saving that choose their runs, with other seeds.

One study with one set of seeds shows one draw of the noise, and what it showed has shaped the
protocol. Here the protocol is fixed and the seeds are new. Needs results/benchmarks/saving.json;
writes saving_again.json and .md, and saving_again.svg (and .png), beside it. What saving_again.json
holds already is not run again.
"""

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.benchmarks.saving import STUDIES, WAYS, outcome, run
from experiments.benchmarks.saving_again_page import FIRST, draw, page
from experiments.next_runs import NEW_SEEDS
from experiments.provenance import cpu_model, n_cores, software_facts
from experiments.storage import replace_text

N_SETS, N_SEEDS = 4, 3
NAMES = ("alone", "next", "trunks and next")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="train nothing: write the page again")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--work", type=Path, default=Path("results/saving_again"), help="of runs")
    options = parser.parse_args()
    folder = options.results / "benchmarks"
    path = folder / "saving_again.json"
    record = json.loads(path.read_text()) if path.exists() else _empty(folder)
    ways = [way for way in WAYS if way.name in NAMES]
    for study, seeds in () if options.page else itertools.product(STUDIES, _sets()):
        work = options.work / seeds.replace(",", "-")
        found = record["sets"][study].setdefault(seeds, {})
        for way in (replace(w, overrides=(*w.overrides, f"seeds={seeds}")) for w in ways):
            if way.name in found:
                continue
            print(f"{study}, seeds {seeds}, {way.name} ...", flush=True)
            # Programs do not depend on seeds.
            is_first = (way.name, seeds) == (NAMES[0], _sets()[0])
            run(study, way, work, found.get("alone"), fills_cache=is_first)
            found[way.name] = outcome(study, way, work)
            replace_text(path, json.dumps(record, indent=1) + "\n")
    replace_text(folder / "saving_again.md", page(record))
    draw(record, folder)
    print((folder / "saving_again.md").read_text())


def _empty(folder: Path) -> dict[str, Any]:
    """With what make bench-saving found, to be shown beside the rest and counted nowhere."""
    first = json.loads((folder / "saving.json").read_text())
    ways = first["ways"]
    return {
        "command": "make bench-saving-again",
        "device": cpu_model(),
        "cores": n_cores(),
        "margins": first["margins"],
        **software_facts(),
        "sets": {
            study: {FIRST: {name: ways[f"{study}:{name}"] for name in NAMES}} for study in STUDIES
        },
    }


def _sets() -> list[str]:
    """Apart from one another, from those that have shaped the protocol, and from seeds that may
    be chosen beside a study's own."""
    step = N_SEEDS + NEW_SEEDS
    firsts = [step * (n + 2) for n in range(N_SETS)]
    return [",".join(str(first + i) for i in range(N_SEEDS)) for first in firsts]


if __name__ == "__main__":
    main()
