# SPDX-License-Identifier: Apache-2.0
"""Recipes for bytes of text, 1e4 to 1e6 parameters and 1e5 to 1e8 tokens at 128 tokens a sequence.

How their constants were found: results/benchmarks/notes/recipes.md.
"""

from experiments.study.explained import Explained
from experiments.study.recipe import BatchRule, BlockRule, OptimizerRule, Recipe, ShapeRule
from model.network.counts.attention import AttentionRule
from model.network.counts.mlp import MLPRule
from model.training.config import MuonConfig
from model.training.optimizers.parameterization import BaseConstants

TINY_BYTES = Recipe(
    name="tiny-bytes",
    shape=ShapeRule(
        width_multiple=8,
        width_per_layer=64.0,
        min_layers=2,
        max_layers=2,
        blocks=(
            BlockRule(
                mixer=AttentionRule(
                    head_width=16,
                    min_heads=2,
                    max_heads=1024,
                    queries_per_kv_head=1,
                    rope_theta=1e4,
                    use_qk_norm=True,
                ),
                channel_mixer=MLPRule(activation="swiglu", ff_ratio=8 / 3, ff_multiple=4),
            ),
        ),
        norm="rmsnorm",
        norm_eps=1e-6,
        learned_positions=False,
        use_bias=False,
        tie_embeddings=True,
        embedding_init_std=0.5,
        hidden_init_gain=1.0,
        branch_init_gain=1.0,
        output_init_std=1.0,
    ),
    base=BaseConstants(
        d_model=64,
        n_layers=2,
        hidden_rate=1e-2,
        input_rate=2e-2,
        output_rate=1e-2,
        vector_rate=1e-2,
        eps=1e-8,
        residual_multiplier=2**-0.5,
        logit_multiplier=0.3,
    ),
    parameterization="completep",
    batch=BatchRule(reference_tokens=512.0, reference_run=8e5, exponent=0.5, multiple=1),
    optimizer=OptimizerRule(
        algorithm="adamw",
        muon=None,
        learning_rate=1.0,
        beta1=0.9,
        beta2_halflife_tokens=2e4,
        beta2_halflife_exponent=0.0,
        clip_norm=1.0,
        weight_decay_timescale=0.7,
        weight_decay_exponent=-0.5,
        warmup_fraction=0.15,
        decay_fraction=0.85,
        decay="linear",
        final_fraction=0.0,
        z_loss_weight=0.0,
    ),
    horizon_tokens_per_param=None,
    compute_dtype="float32",
    bfloat16_from_params=None,
)

TINY_BYTES_MUON = TINY_BYTES.with_(
    name="tiny-bytes-muon",
    base__hidden_rate=4e-2,
    optimizer__algorithm="muon",
    optimizer__muon=MuonConfig(momentum=0.9, nesterov=True, ns_steps=5, scale="spectral"),
)

TINY_BYTES_WSD = TINY_BYTES.with_(
    name="tiny-bytes-wsd",
    horizon_tokens_per_param=20.0,
    optimizer__learning_rate=0.5,
    optimizer__warmup_fraction=0.02,
    optimizer__decay_fraction=0.2,
    optimizer__decay="one_minus_sqrt",
    optimizer__weight_decay_falls=True,
)

_TINY = Explained(
    recipe=TINY_BYTES,
    about="byte models of 1e4 to 1e6 parameters on a CPU",
    why={
        "shape.width_multiple": "widths that a study does not list are multiples of it",
        "shape.width_per_layer": "without effect: the depth is fixed",
        "shape.min_layers shape.max_layers": "two at every width: below 1e12 FLOPs more layers "
        "lose, and a step of the depth puts a jump into an isoFLOP curve; measured here",
        "mixer.head_width": "heads of 8 lose 0.10 to heads of 16 at widths 16 and 32",
        "mixer.max_heads": "no bound",
        "mixer.min_heads": "from one head to two the loss jumps; two at every width, measured here",
        "mixer.queries_per_kv_head": "as many heads of keys as of queries: there is no cache to "
        "keep small",
        "channel_mixer.ff_ratio": "8/3: three matrices of it cost what two of 4 do (Shazeer 2020, "
        "arXiv:2002.05202)",
        "channel_mixer.ff_multiple": "d_ff within 4 % of the ratio at all widths of the quickstart",
        "channel_mixer.activation shape.norm shape.learned_positions shape.use_bias": "as Llama: "
        "RMSNorm, rotary positions, SwiGLU, no biases; not varied here",
        "shape.norm_eps mixer.rope_theta mixer.window": "usual; not varied here",
        "mixer.use_qk_norm": "bounds the logits of attention (Henry et al. 2020, "
        "arXiv:2010.04245); not varied here",
        "shape.tie_embeddings": "at these sizes a second table of 256 rows is a large part of all "
        "parameters",
        "shape.embedding_init_std": "0.02 to 0.1 lose 0.2 to 0.4 nats against it",
        "shape.hidden_init_gain shape.branch_init_gain": "variance 1 / fan_in; not varied here",
        "shape.output_init_std": "without effect: the head is tied",
        "base.d_model base.n_layers": "the shape that the rates were found at",
        "base.hidden_rate": "best of 8e-3 to 1.6e-2 at widths 16 to 128, and over a run ten times "
        "as long",
        "base.input_rate base.vector_rate": "found together with the hidden rate",
        "base.output_rate": "without effect: the head is tied",
        "base.eps": "Adam's own; not varied here",
        "base.residual_multiplier": "1 / sqrt 2 at two layers; not varied here",
        "base.logit_multiplier": "a tied head begins far from ln V, which costs nothing; a third "
        "of it neither gains nor loses clearly",
        "parameterization": "the best rate stays where it is from width 16 to 128 (Dey et al. "
        "2025, arXiv:2505.01618)",
        "batch.reference_tokens batch.reference_run": "at 6e4 tokens eight sequences lose 0.2 to "
        "one or two, at 3e6 four lose to eight; measured here",
        "batch.exponent": "with one batch for all lengths the arms of isoFLOP curves bend; near "
        "the 0.571 of Step Law (Li et al. 2025, arXiv:2503.04715)",
        "batch.multiple": "two sequences at least lose 0.03 to 0.05 at the smallest points",
        "optimizer.algorithm optimizer.muon": "the usual one; Muon is tiny-bytes-muon",
        "optimizer.learning_rate": "a factor on the four rates of the base, for sweeps",
        "optimizer.beta1": "usual; not varied here",
        "optimizer.beta2_halflife_exponent": "one half-life for all lengths",
        "optimizer.beta2_halflife_tokens": "5e3 loses 0.01 to 1.5e4 and 4e4, which are equal; in "
        "tokens (Marek et al. 2025, arXiv:2507.07101)",
        "optimizer.clip_norm": "no clipping loses 0.01 to 0.03",
        "optimizer.weight_decay_timescale": "0.25 of the run loses 0.01 to 0.03; 0.6 and 1.5 are "
        "equal",
        "optimizer.weight_decay_exponent": "near the -0.527 of Bergsma et al. 2025 "
        "(arXiv:2505.13738); here within a standard error of 0",
        "optimizer.weight_decay_falls": "each run's decay is known from its length",
        "optimizer.warmup_fraction optimizer.decay_fraction": "shares of the run: a fixed warm-up "
        "bends the curves (Porian et al. 2024, arXiv:2406.19146)",
        "optimizer.decay optimizer.final_fraction": "linear to zero (Bergsma et al. 2025, "
        "arXiv:2502.15938)",
        "optimizer.z_loss_weight": "none: logits of these sizes do not drift; not varied here",
        "horizon_tokens_per_param": "each run's own length: nothing is shared",
        "objective mask_ratio shape.encoder shape.patches": "what the constants were found for",
        "compute_dtype bfloat16_from_params": "for CPUs",
    },
)
EXPLAINED = (
    _TINY,
    Explained(
        recipe=TINY_BYTES_MUON,
        like=_TINY,
        about="tiny-bytes with Muon: 0.06 to 0.08 nats lower at 1e11 FLOPs",
        why={
            "base.hidden_rate": "0.01 to 0.06 swept at 7.5e10 FLOPs, 0.015 to 0.06 at 2.5e11",
            "optimizer.algorithm": "hidden matrices by Muon (Jordan et al. 2024)",
            "optimizer.muon.momentum": "0.8 and 0.9 are equal, 0.95 loses 0.03",
            "optimizer.muon.nesterov optimizer.muon.ns_steps": "Muon's own; not varied here",
            "optimizer.muon.scale": "one rate for all widths (Yang et al. 2023, arXiv:2310.17813)",
        },
    ),
    Explained(
        recipe=TINY_BYTES_WSD,
        like=_TINY,
        about="tiny-bytes with a plateau: runs of a size may share a trunk",
        why={
            "horizon_tokens_per_param": "one batch and warm-up for all runs of a size; 20: "
            "about the optimum (Hoffmann et al. 2022, arXiv:2203.15556)",
            "optimizer.learning_rate": "half of tiny-bytes', as the peak lasts for four fifths "
            "of a run; how it was found is not recorded",
            "optimizer.weight_decay_falls": "the horizon's decay loses up to 0.05 in runs beyond "
            "it, each run's own cannot be shared; this one loses to neither. Measured here",
            "optimizer.warmup_fraction": "of the horizon: short, for the shortest branch too",
            "optimizer.decay_fraction optimizer.decay": "a fifth, 1 - sqrt (Hägele et al. 2024, "
            "arXiv:2405.18392)",
        },
    ),
)
