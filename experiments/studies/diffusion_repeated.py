# SPDX-License-Identifier: Apache-2.0
"""The study `diffusion` where text is scarce: 16 KiB, read up to a hundred times.

There diffusion is said to win in the end: each reading hides other tokens, and so it overfits later
(Prabhudesai et al. 2025, arXiv:2507.15857). The recipes are those of plenty of text: no weight
decay is sought for either.
"""

from dataclasses import replace

from experiments.studies.diffusion import STUDY as PLENTY
from experiments.studies.diffusion import TEXT
from model.data.source import Mixture, Part

STUDY = replace(
    PLENTY,
    name="diffusion_repeated",
    question="Next tokens or diffusion, at 1e9 to 3.5e11 FLOPs on 16 KiB of text?",
    data=Mixture(
        parts=(Part(name="few", source=TEXT, weight=1.0, max_epochs=300.0, unique_tokens=2**14),),
    ),
)
