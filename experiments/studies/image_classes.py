# SPDX-License-Identifier: Apache-2.0
"""What does a vision Transformer need to know the class of an image, as well as can be known?

Question: nats per image against compute, on the images of `isoflop run images`. The first row tells
which of four classes an image is, and not for certain: the best classifier is wrong on 7.78 % of
them and loses 0.2085 nats per image. The table has `error_rate` beside the loss.

Patches of 2 x 2 pixels. Every image is new; D is in pixels, 64 of an image. The rates are those of
next bytes, not tuned here.

Command: ``isoflop run image_classes``.
"""

from dataclasses import replace

from experiments.recipes.dense import DENSE_MUON
from experiments.studies.images import IMAGES
from experiments.study.study import Ladder, Study
from model.network.counts.patches import PatchConfig
from model.training.config import EvalConfig

VIT = DENSE_MUON.with_(
    name="vit",
    objective="classification",
    shape__blocks__0__mixer__rope_theta=None,
    shape__learned_positions=True,
    shape__patches=PatchConfig(height=8, width=8, channels=1, levels=4, side=2, pool="token"),
)

STUDY = Study(
    name="image_classes",
    question="What does a vision Transformer need to know the class of an image?",
    budgets=(1e9, 7e9, 5e10),
    sizes=Ladder(d_models=(8, 12, 16, 24, 32, 48, 64), tokens_per_param=(1.0, 1000.0)),
    seeds=(0, 1),
    data=replace(IMAGES, labelled=True),
    seq_len=IMAGES.n_pixels,
    evaluation=EvalConfig(n_tokens=64 * 8192, curve_tokens=64 * 512, n_points=3, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=VIT,
)
