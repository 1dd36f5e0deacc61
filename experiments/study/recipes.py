# SPDX-License-Identifier: Apache-2.0
"""Named recipes. A recipe has no defaults: read it to know what moved the loss."""

from experiments.study.recipe import BatchRule, OptimizerRule, Recipe, ShapeRule
from model.training.config import MuonConfig
from model.training.parameterization import BaseConstants

# For bytes of text, 1e4 to 1e6 parameters and 1e5 to 1e8 tokens at 128 tokens per sequence; how its
# constants and those of tiny-bytes-muon were found: results/benchmarks/notes/recipes.md.
TINY_BYTES = Recipe(
    name="tiny-bytes",
    shape=ShapeRule(
        width_multiple=8,
        width_per_layer=64.0,
        min_layers=2,
        max_layers=2,
        head_width=16,
        min_heads=2,
        queries_per_kv_head=1,
        ff_ratio=8 / 3,
        ff_multiple=4,
        mixers=("attention",),
        channel_mixers=("swiglu",),
        norm="rmsnorm",
        norm_eps=1e-6,
        positions="rope",
        rope_theta=1e4,
        use_bias=False,
        use_qk_norm=True,
        tie_embeddings=True,
        embedding_init_std=0.5,
        hidden_init_gain=1.0,
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
)

# Its hidden group is all that differs from tiny-bytes.
TINY_BYTES_MUON = TINY_BYTES.with_(
    name="tiny-bytes-muon",
    base__hidden_rate=4e-2,
    optimizer__algorithm="muon",
    optimizer__muon=MuonConfig(momentum=0.9, nesterov=True, ns_steps=5, scale="spectral"),
)

# Warm-up, plateau and a decay of the last fifth: runs of a size may share a trunk.
TINY_BYTES_WSD = TINY_BYTES.with_(
    name="tiny-bytes-wsd",
    horizon_tokens_per_param=20.0,
    optimizer__learning_rate=0.5,
    optimizer__warmup_fraction=0.02,
    optimizer__decay_fraction=0.2,
    optimizer__decay="one_minus_sqrt",
)

# The shapes of Llama 3 (Grattafiori et al. 2024, arXiv:2407.21783, table 3; 8B: 32 layers of width
# 4096, 32 heads of 128, 8 of keys and values, d_ff 14336, base of the rotary angles 5e5), at other
# widths by the same ratios. The rate, 3e-4, is that of its 8B; the other constants are usual ones
# of that size, carried over by this project's rules. The head begins at zero: far below the base
# width the multiplier of the logits would make any other one certain of something at random.
# Neither tuned nor trained here: for `isoflop check`, and as a beginning.
LLAMA_LIKE = Recipe(
    name="llama-like",
    shape=ShapeRule(
        width_multiple=256,
        width_per_layer=128.0,
        min_layers=4,
        max_layers=128,
        head_width=128,
        min_heads=4,
        queries_per_kv_head=4,
        ff_ratio=3.5,
        ff_multiple=256,
        mixers=("attention",),
        channel_mixers=("swiglu",),
        norm="rmsnorm",
        norm_eps=1e-5,
        positions="rope",
        rope_theta=5e5,
        use_bias=False,
        use_qk_norm=False,
        tie_embeddings=False,
        embedding_init_std=0.02,
        hidden_init_gain=1.0,
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
)
