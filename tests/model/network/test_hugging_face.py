# SPDX-License-Identifier: Apache-2.0
"""What Hugging Face is told of a network. That it computes the same: tests/parity."""

import dataclasses
import math

import msgspec
import numpy as np
import pytest
from small_networks import GPT2, LLAMA, vary

from model.network.config import ModelConfig
from model.network.counts.attention import AttentionConfig
from model.network.counts.mlp import GELUConfig, SwiGLUConfig
from model.network.counts.patches import PatchConfig
from model.network.counts.total import block_weights, count_params, outer_weights
from model.network.hugging_face import config_of, family, weights_of

NETWORKS = {
    "llama": LLAMA,
    "llama with biases": vary(LLAMA, n_kv_heads=2, use_bias=True, tie_embeddings=True),
    "qwen3": vary(LLAMA, n_kv_heads=2, use_qk_norm=True, tie_embeddings=True),
    "gpt2": vary(LLAMA, **GPT2, d_head=4),
    "gpt2 untied without biases": vary(
        LLAMA, **GPT2 | {"use_bias": False, "tie_embeddings": False}, d_head=4
    ),
}


def arrays(config: ModelConfig) -> dict[str, np.ndarray]:
    """Every number of a network is another one: 1, 2, 3, ..."""
    weights = outer_weights(config)
    for layer in range(config.n_layers):
        block = block_weights(config, config.blocks[layer % len(config.blocks)])
        weights |= {f"layers.{layer}.{name}": weight for name, weight in block.items()}
    numbers = iter(np.split(np.arange(1.0, 1 + count_params(config).total), _ends(weights)))
    return {name: next(numbers).reshape(weight.shape) for name, weight in weights.items()}


def _ends(weights: dict) -> np.ndarray:
    return np.cumsum([math.prod(weight.shape) for weight in weights.values()])[:-1]


@pytest.mark.parametrize("name", NETWORKS)
def test_each_of_our_numbers_is_one_of_theirs(name: str) -> None:
    config = NETWORKS[name]
    ours, theirs = arrays(config), weights_of(config, arrays(config))
    moved = np.sort(np.concatenate([array.ravel() for array in theirs.values()]))
    expected = np.sort(np.concatenate([array.ravel() for array in ours.values()]))
    np.testing.assert_array_equal(moved[moved > 0], expected)
    # Biases that GPT-2 has and ours has not: queries, keys, values, four maps and two norms.
    n_zeros = 2 * (3 * 16 + 16 + 40 + 16 + 2 * 16) + 16 if "without" in name else 0
    assert (moved == 0).sum() == n_zeros


@pytest.mark.parametrize("name", NETWORKS)
def test_factors_are_folded_where_branches_end_and_into_the_last_norm(name: str) -> None:
    plain = NETWORKS[name]
    scaled = dataclasses.replace(plain, residual_multiplier=0.25, logit_multiplier=3.0)
    before, after = (weights_of(config, arrays(config)) for config in (plain, scaled))
    for key, array in after.items():
        ends_branch = any(word in key for word in ("o_proj", "down_proj", "c_proj"))
        is_last = key.startswith(("model.norm", "transformer.ln_f"))
        factor = 0.25 if ends_branch else 3.0 if is_last else 1.0
        np.testing.assert_array_equal(array, factor * before[key], err_msg=key)


def test_config_json_names_the_class_and_its_sizes() -> None:
    told = config_of(NETWORKS["qwen3"])
    assert (told["architectures"], told["model_type"]) == (["Qwen3ForCausalLM"], "qwen3")
    sizes = [told[n] for n in ("hidden_size", "num_key_value_heads", "head_dim")]
    assert sizes == [16, 2, 6]
    assert told["rope_parameters"] == {"rope_type": "default", "rope_theta": 100.0}
    assert config_of(NETWORKS["llama with biases"])["mlp_bias"] is True
    assert config_of(NETWORKS["gpt2"])["n_inner"] == 40


REFUSED = (
    ({"channel_mixers": ("swiglu", "gelu")}, "blocks of one kind; attention+swiglu attention+gelu"),
    ({"use_qk_norm": True, "use_bias": True}, "no biases in its MLP; use_bias=True"),
    ({"n_heads": 3, "n_kv_heads": 3}, "Llama's n_heads divides d_model=16; n_heads=3"),
    ({"norm": "layernorm"}, "this one layernorm, rotary positions and swiglu"),
    ({"rope_theta": None}, "this one rmsnorm, no positions and swiglu"),
    ({"channel_mixers": ("gelu",)}, "this one rmsnorm, rotary positions and gelu"),
    ({**GPT2, "rope_theta": 10.0}, "this one layernorm, rotary and learned positions and gelu"),
    ({**GPT2, "d_head": 4, "use_qk_norm": True}, "GPT-2 has no query-key norm"),
    ({**GPT2, "d_head": 4, "n_kv_heads": 2}, "n_heads=4, n_kv_heads=2, d_head=4"),
    (GPT2, "make up d_model=16; n_heads=4, n_kv_heads=4, d_head=6"),
)


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_a_network_that_is_none_of_theirs_is_refused_with_the_reason(
    changes: dict, words: str
) -> None:
    config = vary(LLAMA, **changes)
    for subject in (family, config_of):
        with pytest.raises(ValueError, match=r"no network of Hugging Face is this one\.") as error:
            subject(config)
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_documents_kept_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="attention crosses documents; documents_apart=True"):
        family(dataclasses.replace(LLAMA, separator=0))


def test_a_network_of_images_is_refused() -> None:
    square = PatchConfig(height=4, width=4, channels=1, levels=4, side=2, pool="mean")
    net = dataclasses.replace(LLAMA, patches=square, seq_len=16, tie_embeddings=False)
    with pytest.raises(ValueError, match="neither an encoder beside them nor patches"):
        family(net)


def test_a_block_without_a_channel_mixer_is_refused() -> None:
    block = msgspec.structs.replace(LLAMA.blocks[0], channel_mixer=None)
    with pytest.raises(ValueError, match="attention with swiglu or gelu; attention"):
        family(dataclasses.replace(LLAMA, blocks=(block,)))


def test_a_new_field_of_a_network_is_not_forgotten_in_the_export() -> None:
    """Whoever adds one adds it to ``family`` or ``config_of``, and here."""
    assert set(AttentionConfig.__struct_fields__) == {
        *("n_heads", "n_kv_heads", "d_head", "rope_theta", "use_qk_norm", "window")
    }
    assert SwiGLUConfig.__struct_fields__ == GELUConfig.__struct_fields__ == ("d_ff",)
    said_nothing = {"embedding_init_std", "hidden_init_gain", "branch_init_gain", "output_init_std"}
    assert {field.name for field in dataclasses.fields(ModelConfig)} - said_nothing == {
        *("vocab_size", "seq_len", "d_model", "n_layers", "blocks", "norm", "norm_eps"),
        *("learned_positions", "use_bias", "tie_embeddings", "residual_multiplier"),
        *("logit_multiplier", "separator", "encoder", "patches"),
    }
