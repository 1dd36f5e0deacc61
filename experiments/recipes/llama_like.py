# SPDX-License-Identifier: Apache-2.0
"""Llama 3's shapes at any width: neither tuned nor trained here.

For `isoflop check`, and as a beginning (Grattafiori et al. 2024, arXiv:2407.21783, table 3).
"""

from experiments.study.explained import Explained
from experiments.study.recipe import BatchRule, BlockRule, OptimizerRule, Recipe, ShapeRule
from model.network.counts.attention import AttentionRule
from model.network.counts.mlp import MLPRule
from model.training.optimizers.parameterization import BaseConstants

LLAMA_LIKE = Recipe(
    name="llama-like",
    shape=ShapeRule(
        width_multiple=256,
        width_per_layer=128.0,
        min_layers=4,
        max_layers=128,
        blocks=(
            BlockRule(
                mixer=AttentionRule(
                    head_width=128,
                    min_heads=4,
                    max_heads=1024,
                    queries_per_kv_head=4,
                    rope_theta=5e5,
                    use_qk_norm=False,
                ),
                channel_mixer=MLPRule(activation="swiglu", ff_ratio=3.5, ff_multiple=256),
            ),
        ),
        norm="rmsnorm",
        norm_eps=1e-5,
        learned_positions=False,
        use_bias=False,
        tie_embeddings=False,
        embedding_init_std=0.02,
        hidden_init_gain=1.0,
        branch_init_gain=1.0,
        output_init_std=0.0,
    ),
    base=BaseConstants(
        d_model=4096,
        n_layers=32,
        hidden_rate=3e-4,
        input_rate=3e-4,
        output_rate=3e-4,
        vector_rate=3e-4,
        eps=1e-8,
        residual_multiplier=1.0,
        logit_multiplier=1.0,
    ),
    parameterization="completep",
    batch=BatchRule(reference_tokens=2.0**19, reference_run=2e10, exponent=0.0, multiple=16),
    optimizer=OptimizerRule(
        algorithm="adamw",
        muon=None,
        learning_rate=1.0,
        beta1=0.9,
        beta2_halflife_tokens=2e7,
        beta2_halflife_exponent=0.0,
        clip_norm=1.0,
        weight_decay_timescale=0.2,
        weight_decay_exponent=-0.5,
        warmup_fraction=0.02,
        decay_fraction=0.98,
        decay="cosine",
        final_fraction=0.1,
        z_loss_weight=0.0,
    ),
    horizon_tokens_per_param=None,
    compute_dtype="bfloat16",
    bfloat16_from_params=None,
)

EXPLAINED = (
    Explained(
        recipe=LLAMA_LIKE,
        about="Llama 3's shapes at any width; neither tuned nor trained here",
        why={
            "shape.width_multiple channel_mixer.ff_multiple": "tiles of 256 on accelerators",
            "shape.width_per_layer": "8B: 32 layers of width 4096",
            "shape.min_layers shape.max_layers": "bounds, beyond the table's sizes",
            "mixer.head_width": "all of the table's sizes have heads of 128",
            "mixer.max_heads": "no bound",
            "mixer.min_heads": "one head of keys and values at least",
            "mixer.queries_per_kv_head": "8B: 32 heads of queries, 8 of keys and values",
            "channel_mixer.ff_ratio": "8B: 14336 / 4096",
            "channel_mixer.activation shape.norm shape.learned_positions shape.use_bias": "as "
            "the paper",
            "shape.norm_eps": "of the published configurations",
            "mixer.rope_theta": "5e5, the paper's",
            "mixer.window": "none, as the paper",
            "mixer.use_qk_norm shape.tie_embeddings": "as the paper: neither",
            "embedding_init_std hidden_init_gain branch_init_gain": "usual; the paper does not say",
            "shape.output_init_std": "zero: far below the base width the multiplier of the logits "
            "would make any other head certain of something at random",
            "base.d_model base.n_layers": "the 8B's, whose rate it is",
            "base.hidden_rate base.input_rate base.output_rate base.vector_rate": "the 8B's peak",
            "base.eps": "Adam's own",
            "base.residual_multiplier base.logit_multiplier": "none at the base shape",
            "parameterization": "carries the 8B's rate to other shapes (Dey et al. 2025, "
            "arXiv:2505.01618); not checked at this scale",
            "batch.reference_tokens batch.reference_run batch.exponent": "half a million tokens "
            "for every run; usual of that size",
            "batch.multiple": "divides over 16 devices",
            "optimizer.algorithm optimizer.muon": "AdamW, the paper's",
            "optimizer.learning_rate": "a factor on the four rates of the base, for sweeps",
            "optimizer.beta1": "usual",
            "optimizer.beta2_halflife_exponent": "batches are the same for all lengths",
            "optimizer.beta2_halflife_tokens": "0.98 a step at half a million tokens",
            "optimizer.clip_norm": "usual",
            "optimizer.weight_decay_timescale": "usual decay of 0.1 is of this order",
            "optimizer.weight_decay_exponent": "near the -0.527 of Bergsma et al. 2025 "
            "(arXiv:2505.13738)",
            "optimizer.weight_decay_falls": "one decay for the run, usual",
            "optimizer.warmup_fraction optimizer.decay_fraction": "short, and all the rest",
            "optimizer.decay optimizer.final_fraction": "cosine to a tenth, as Hoffmann et al. "
            "2022 (arXiv:2203.15556); linear to zero is better practice today",
            "optimizer.z_loss_weight": "none",
            "horizon_tokens_per_param": "each run's own length",
            "objective mask_ratio shape.encoder shape.patches": "what they train",
            "compute_dtype bfloat16_from_params": "what accelerators multiply fastest",
        },
    ),
)
