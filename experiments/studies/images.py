# SPDX-License-Identifier: Apache-2.0
"""Images as sequences of pixels: what do attention and a masked convolution need for one loss?

Question: at equal compute, how near do a Transformer and a PixelCNN come to the entropy of images
that is known? Each pixel of a Markov mesh follows from the one above or the one on its left, as the
one between both says (model/data/images/): 1.5753 bits per dimension, of 2 that a pixel of
four levels could have; the first row tells which of four classes it is. The convolution has the
neighbours of a pixel within its kernel, attention must find them among 63 positions. The figure
(figures/side_by_side) has the loss of both, in nats per pixel and bits per dimension, above the
loss of the true source on the same images.

Some two minutes on two cores. Every image is new, so D, in pixels, is never repeated. The rate of
the convolution is that of `isoflop run architectures`; neither was tuned on images.

Command: ``isoflop run images``.
"""

from dataclasses import replace

from experiments.recipes.dense import DENSE_MUON
from experiments.study.study import Axis, Ladder, Study
from model.data.source import MarkovMesh
from model.network.counts.masked_convolution import MaskedConvolutionRule
from model.training.config import EvalConfig

IMAGES = MarkovMesh(height=8, width=8, levels=4, epsilon=0.5, labelled=False)
(ATTENTION,) = DENSE_MUON.shape.blocks
MASKED = MaskedConvolutionRule(
    hidden_ratio=1.0, hidden_multiple=8, kernel=3, width=IMAGES.width, mask="A"
)
TRANSFORMER = DENSE_MUON.with_(name="transformer")
CONVOLUTION = DENSE_MUON.with_(
    name="masked-convolution",
    shape__blocks=tuple(
        replace(ATTENTION, mixer=mixer) for mixer in (MASKED, replace(MASKED, mask="B"))
    ),
    optimizer__learning_rate=0.7,
)

STUDY = Study(
    name="images",
    question="What do attention and a masked convolution need for one loss of pixels?",
    budgets=(1e9, 7e9, 5e10),
    sizes=Ladder(d_models=(8, 12, 16, 24, 32, 48, 64), tokens_per_param=(0.3, 300.0)),
    seeds=(0, 1),
    data=IMAGES,
    seq_len=IMAGES.n_pixels,
    evaluation=EvalConfig(n_tokens=64 * 2048, curve_tokens=64 * 256, n_points=3, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=TRANSFORMER,
    axes=(Axis(field="recipe", values=(TRANSFORMER, CONVOLUTION)),),
)
