# SPDX-License-Identifier: Apache-2.0
"""A trained run, exported, has its own logits in transformers (``make test-parity``)."""

import numpy as np
import pytest
from trained_runs import SEQ_LEN, tiny_bytes, trained

from experiments.weights.export_model import export_model
from experiments.weights.load_model import load_model

torch = pytest.importorskip("torch", reason="make test-parity installs it")
transformers = pytest.importorskip("transformers", reason="make test-parity installs it")
pytestmark = pytest.mark.parity

PLAIN = {"shape__blocks__0__mixer__use_qk_norm": False}
RECIPES = {
    "Qwen3ForCausalLM": tiny_bytes(),
    "LlamaForCausalLM": tiny_bytes(
        **PLAIN,
        shape__blocks__0__mixer__min_heads=4,
        shape__blocks__0__mixer__queries_per_kv_head=2,
        shape__tie_embeddings=False,
        shape__use_bias=True,
    ),
    "GPT2LMHeadModel": tiny_bytes(
        **PLAIN,
        shape__blocks__0__mixer__rope_theta=None,
        shape__blocks__0__channel_mixer__activation="gelu",
        shape__norm="layernorm",
        shape__learned_positions=True,
        shape__use_bias=True,
    ),
    "GPT2LMHeadModel without biases": tiny_bytes(
        **PLAIN,
        shape__blocks__0__mixer__rope_theta=None,
        shape__blocks__0__channel_mixer__activation="gelu",
        shape__norm="layernorm",
        shape__learned_positions=True,
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_exported_network_has_the_logits_of_the_run(tmp_path, name):
    """Both sum in float32, in another order, and a folded factor is rounded once more: seen, 1.3e-5
    where logits reach 12, in steps of 1e-6."""
    ledger, points = trained(tmp_path, RECIPES[name])
    run = f"small:{points[0].id}"
    model = load_model(run, results=ledger.results)
    config = model.point.spec.model
    assert config.residual_multiplier != 1.0
    assert config.logit_multiplier != 1.0
    found = export_model(run, tmp_path / "theirs", results=ledger.results)
    assert found == name.split()[0]
    theirs, told = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "theirs", attn_implementation="eager", output_loading_info=True
    )
    assert type(theirs).__name__ == found
    assert not any(told.values()), told
    tokens = np.random.default_rng(0).integers(config.vocab_size, size=(3, SEQ_LEN))
    with torch.no_grad():
        logits = theirs.eval()(input_ids=torch.from_numpy(tokens)).logits.numpy()
    ours = np.asarray(model(tokens))
    print(f"\n{name}: {np.abs(ours - logits).max():.1e} of {np.abs(ours).max():.2g}")
    assert np.abs(ours).max() > 1.0, "there is something to compare"
    np.testing.assert_allclose(logits, ours, rtol=0, atol=5e-5)
