# SPDX-License-Identifier: Apache-2.0
"""Which vocabulary for how little compute? Bytes and four sizes of byte-pair encoding, V in N.

Question: at each budget the vocabulary whose best network has the lowest loss, in bits per byte of
the same validation documents; larger ones should win as compute grows (Tao et al. 2024,
arXiv:2407.13623). Embedding and head count in parameters and FLOPs. All have windows of 128 tokens,
so larger vocabularies see more text: `context_bytes` in the table says how much. The recipe's rates
were tuned for bytes.

Command: ``isoflop run vocabulary``.
"""

from experiments.recipes.dense import DENSE_MUON
from experiments.study.study import Axis, Ladder, Study
from model.data.source import PepsText
from model.data.tokenizer import TrainedBPE
from model.training.config import EvalConfig

STUDY = Study(
    name="vocabulary",
    question="Which vocabulary, from bytes to 32768 tokens, for 2e10 to 2e11 FLOPs?",
    budgets=(2e10, 6e10, 2e11),
    sizes=Ladder(d_models=(8, 16, 24, 32, 64), tokens_per_param=(0.02, 80.0)),
    seeds=(0,),
    data=PepsText(validation_fraction=0.05),
    seq_len=128,
    evaluation=EvalConfig(n_bytes=131072, curve_bytes=16384, n_points=3, seed=0),
    max_epochs=1.0,
    flops="matmul_full",
    recipe=DENSE_MUON,
    axes=(
        Axis(
            field="data.tokenizer",
            values=(None, *(TrainedBPE(vocab_size=n) for n in (512, 2048, 8192, 32768))),
            labels=("bytes", "BPE 512", "BPE 2048", "BPE 8192", "BPE 32768"),
        ),
    ),
)
