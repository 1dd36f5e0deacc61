# SPDX-License-Identifier: Apache-2.0
"""One dial, the width: depth, heads, batch, rates and decay follow from it and the run's length.

Tuned on bytes of text with 1e4 to 1e5 parameters (results/benchmarks/notes/recipes.md); what is
larger is carried over by rules, and is an assumption until `isoflop lr-check` says otherwise.
Multiples of 16 have heads of 16; other widths have fewer and wider ones.
"""

from experiments.study.explained import Explained
from experiments.study.recipe import BatchRule, BlockRule, OptimizerRule, Recipe, ShapeRule
from model.network.counts.attention import AttentionRule
from model.network.counts.mlp import MLPRule
from model.training.config import MuonConfig
from model.training.optimizers.parameterization import BaseConstants

DENSE = Recipe(
    name="dense",
    shape=ShapeRule(
        width_multiple=16,
        width_per_layer=32.0,
        min_layers=2,
        max_layers=128,
        blocks=(
            BlockRule(
                mixer=AttentionRule(
                    head_width=16,
                    min_heads=1,
                    max_heads=32,
                    queries_per_kv_head=1,
                    rope_theta=1e4,
                    use_qk_norm=True,
                ),
                channel_mixer=MLPRule(activation="swiglu", ff_ratio=8 / 3, ff_multiple=16),
            ),
        ),
        norm="rmsnorm",
        norm_eps=1e-6,
        learned_positions=False,
        use_bias=False,
        tie_embeddings=False,
        embedding_init_std=0.5,
        hidden_init_gain=1.0,
        branch_init_gain=0.0,
        output_init_std=0.0,
    ),
    base=BaseConstants(
        d_model=64,
        n_layers=2,
        hidden_rate=7.5e-3,
        input_rate=3e-2,
        output_rate=1.5e-1,
        vector_rate=1.5e-2,
        eps=1e-8,
        residual_multiplier=2**-0.5,
        logit_multiplier=1.0,
    ),
    parameterization="completep",
    batch=BatchRule(reference_tokens=512.0, reference_run=8e5, exponent=0.5, multiple=1),
    optimizer=OptimizerRule(
        algorithm="adamw",
        muon=None,
        learning_rate=1.0,
        beta1=0.9,
        beta2_halflife_tokens=4e4,
        beta2_halflife_exponent=0.5,
        clip_norm=1.0,
        weight_decay_timescale=0.7,
        weight_decay_exponent=-0.5,
        warmup_fraction=0.15,
        decay_fraction=0.85,
        decay="linear",
        final_fraction=0.0,
        z_loss_weight=1e-5,
    ),
    horizon_tokens_per_param=None,
    compute_dtype="float32",
    bfloat16_from_params=1e8,
)

DENSE_MUON = DENSE.with_(
    name="dense-muon",
    base__hidden_rate=4e-2,
    base__input_rate=6e-2,
    base__output_rate=1e-2,
    base__vector_rate=1e-2,
    optimizer__algorithm="muon",
    optimizer__muon=MuonConfig(momentum=0.9, nesterov=True, ns_steps=5, scale="spectral"),
)

_DENSE = Explained(
    recipe=DENSE,
    about="one dial, the width, for 1e5 to 1e10 parameters; tuned at 1e5",
    why={
        "shape.width_multiple": "whole heads",
        "shape.width_per_layer": "the smallest networks have two layers up to width 64, 1e8 "
        "parameters have 20; nanochat takes 64",
        "shape.min_layers": "three layers lose 0.05 to two at width 48 and 2.5e11 FLOPs, with Muon",
        "shape.max_layers": "a bound beyond 1e10 parameters",
        "mixer.head_width": "heads of 8 lose 0.10 to it at widths 16 and 32; heads of 32 lose at "
        "16 and are equal at 32",
        "mixer.min_heads": "one head at width 16",
        "mixer.max_heads": "from width 512 heads grow: 64 at 2048, 128 at 4096, as Llama 3's are",
        "mixer.queries_per_kv_head": "as many heads of keys as of queries; not varied here",
        "channel_mixer.ff_ratio": "8/3: three matrices of it cost what two of 4 do (Shazeer 2020, "
        "arXiv:2002.05202)",
        "channel_mixer.ff_multiple": "tiles; with widths that are multiples of it, d_ff is within "
        "13 % of the ratio at width 16 and 4 % from 32 on",
        "channel_mixer.activation shape.norm shape.learned_positions shape.use_bias": "as Llama: "
        "RMSNorm, rotary positions, SwiGLU, no biases; not varied here",
        "shape.norm_eps mixer.rope_theta mixer.window": "usual; not varied here",
        "mixer.use_qk_norm": "bounds the logits of attention (Henry et al. 2020, arXiv:2010.04245)",
        "shape.tie_embeddings": "a head of its own may begin at zero",
        "shape.embedding_init_std": "that of tiny-bytes, where 0.02 to 0.1 lose 0.2 to 0.4 nats",
        "shape.hidden_init_gain": "variance 1 / fan_in",
        "shape.branch_init_gain": "zero: every block begins as the identity; with Muon 0.045 and "
        "0.078 nats lower at widths 16 and 32, and less spread between seeds",
        "shape.output_init_std": "zero: the first loss is ln V at every size",
        "base.d_model base.n_layers": "the shape that the rates are stated for",
        "base.hidden_rate base.output_rate": "of 3e-3 to 1e-2 and 1e-2 to 3e-1, at width 32 and "
        "2.5e10 FLOPs, and at width 48 and 2.5e11; then all four rates 1.5 times as large, for "
        "the corners of a study",
        "base.input_rate": "6e-3 to 6e-2 are equal at width 32 and 2.5e10 FLOPs",
        "base.vector_rate": "1.5 times that of tiny-bytes, as the others",
        "base.eps": "Adam's own",
        "base.residual_multiplier": "that of tiny-bytes",
        "base.logit_multiplier": "one at the base: the head begins at zero",
        "parameterization": "rates stated once for every width and depth (Dey et al. 2025, "
        "arXiv:2505.01618); `isoflop coordinate-check` is flat in both",
        "batch.reference_tokens batch.reference_run": "twice as many lose 0.04 and 0.07 with Muon "
        "at 2.5e10 FLOPs",
        "batch.exponent": "near the 0.571 of Step Law (Li et al. 2025, arXiv:2503.04715), whose "
        "batches are two to six times as large",
        "batch.multiple": "two sequences at least lose 0.03 to 0.05 at the smallest points",
        "optimizer.algorithm optimizer.muon": "the usual one; Muon is dense-muon",
        "optimizer.learning_rate": "a factor on the four rates of the base, for sweeps; costs "
        "0.00 to 0.05 % of the loss at three corners of a study from 2.5e10 to 7.5e11 FLOPs and on "
        "2.4e7 tokens, at least 0.22 % at the fourth, width 8; two thirds of it 0.13 to 0.62 %",
        "optimizer.beta1": "usual",
        "optimizer.beta2_halflife_tokens": "2e4, 6e4 and 1e5 are equal at 2.5e10 FLOPs; in tokens "
        "(Marek et al. 2025, arXiv:2507.07101)",
        "optimizer.beta2_halflife_exponent": "the batch's: else a long run's batch would be many "
        "half-lives",
        "optimizer.clip_norm": "no clipping loses 0.04 with Muon, a third of it is equal",
        "optimizer.weight_decay_timescale": "that of tiny-bytes; twice as long is equal with Muon",
        "optimizer.weight_decay_exponent": "near the -0.527 of Bergsma et al. 2025 "
        "(arXiv:2505.13738)",
        "optimizer.weight_decay_falls": "each run's decay is known from its length",
        "optimizer.warmup_fraction optimizer.decay_fraction": "shares of the run: a fixed warm-up "
        "bends the curves (Porian et al. 2024, arXiv:2406.19146); a third of it is equal",
        "optimizer.decay optimizer.final_fraction": "linear to zero (Bergsma et al. 2025, "
        "arXiv:2502.15938)",
        "optimizer.z_loss_weight": "a tenth of PaLM's (Chowdhery et al. 2022, arXiv:2204.02311): "
        "keeps log Z from drifting in long runs; not varied here",
        "horizon_tokens_per_param": "each run's own length: nothing is shared",
        "objective mask_ratio shape.encoder shape.patches": "what the constants were found for",
        "compute_dtype": "exact, and small networks are not limited by products of matrices",
        "bfloat16_from_params": "from 1e8 on speed counts; not measured here. A study should not "
        "cross it",
    },
)
EXPLAINED = (
    _DENSE,
    Explained(
        recipe=DENSE_MUON,
        like=_DENSE,
        about="dense with Muon: 0.06 to 0.15 nats lower; the quickstart's",
        why={
            "optimizer.learning_rate": "costs 0.00 to 0.18 % of the loss at three corners of a "
            "study from 2.5e10 to 7.5e11 FLOPs; at the fourth, width 8, 0.59 % on one text and "
            "0.00 % (up to 0.4) with 23 seeds on the quickstart's; 0.13 % (up to 0.5) there on "
            "2.4e7 tokens, width 16; at width 16 and 5e4 tokens 0.84 %",
            "base.hidden_rate": "1.4e-2 to 8e-2 swept at width 32 and 2.5e10 FLOPs, and at "
            "width 48 and 2.5e11",
            "base.input_rate": "2e-2 loses 0.05 and 2e-1 loses 0.04 at width 32",
            "base.output_rate": "three times as much is equal, a third loses 0.03",
            "base.vector_rate": "that of tiny-bytes; a third of it and three times as much lose "
            "0.01, within the noise",
            "optimizer.algorithm": "hidden matrices by Muon (Jordan et al. 2024)",
            "optimizer.muon.momentum": "0.95 loses 0.1 at 2.5e10 FLOPs",
            "optimizer.muon.nesterov optimizer.muon.ns_steps": "Muon's own; not varied here",
            "optimizer.muon.scale": "one rate for all widths (Yang et al. 2023, arXiv:2310.17813)",
        },
    ),
)
