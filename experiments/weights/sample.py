# SPDX-License-Identifier: Apache-2.0
"""isoflop sample: what a trained network writes after a prompt."""

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P

from experiments.weights.draw import Sampled, Sampling, draw
from experiments.weights.fill import fill
from experiments.weights.find_run import manifest_of, require_objective
from experiments.weights.load_model import LoadedModel
from model.data.source import IMAGE_KINDS
from model.data.tokens.encoding import Encoding, IdEncoding, open_encoding


def continue_text(model: LoadedModel, prompt: str, sampling: Sampling) -> tuple[str, Sampled]:
    """The prompt and what follows, up to the end of the document; of a run on token ids, ids.

    The document begins with the prompt: it comes behind the separator that ended another.

    Args:
      prompt: text, or for a run on token ids these, comma separated; may be empty.

    Raises:
      ValueError: one line, if the network was trained for masked tokens, the prompt is no text of
        the run's kind, or the two are too long.
    """
    objective = require_objective(model.point, "next_token", "diffusion")
    manifest = manifest_of(model.ledger, model.point)
    encoding = open_encoding(manifest, model.ledger.data)
    given, n_tokens = _tokens(encoding, prompt), sampling.n_tokens
    begin, room = [encoding.separator, *given], model.point.spec.model.seq_len - 1 - len(given)
    if manifest.kind in IMAGE_KINDS:
        # All values of an image: diffusion sees these alone, and the last is given to no other.
        begin, room = (given if objective == "diffusion" else begin), room + 1
    if room < 1 or (n_tokens or 0) > room:
        raise ValueError(
            f"a prompt of {len(begin)} tokens and {n_tokens or 1} more: the network was trained on "
            f"{room + len(begin)} at a time. Ask for less."
        )
    go_on = fill if objective == "diffusion" else sample
    sampled = go_on(model, begin, n_tokens or room, sampling)
    found = sampled.tokens
    if encoding.separator in found:
        found = found[: found.index(encoding.separator)]
    return _text(encoding, [*given, *found]), sampled


def sample(model: LoadedModel, prompt: Sequence[int], n_tokens: int, sampling: Sampling) -> Sampled:
    """The next ``n_tokens``, one by one, each given all before it; the prompt has one at least."""
    graphdef, params = nnx.split(model.network)

    @jax.jit
    def next_token(params, tokens, state, key):
        logits, state = nnx.merge(graphdef, params).step(tokens, state)
        whole = jax.sharding.reshard(logits[0, -1], P())
        return draw(whole, key, sampling).reshape(1, 1), state

    keys = jax.random.split(jax.random.key(sampling.seed), n_tokens)
    with model.context():
        tokens = jnp.asarray([prompt], jnp.int32)
        length = min(len(prompt) + n_tokens, model.network.config.seq_len)
        state = model.network.init_state(1, length)
        program = next_token.lower(params, tokens, state, keys[0]).compile()
        began = time.monotonic()
        tokens, state = program(params, tokens, state, keys[0])
        found = [int(tokens[0, 0])]
        first_seconds = time.monotonic() - began
        program = next_token.lower(params, tokens, state, keys[0]).compile()
        began = time.monotonic()
        for key in keys[1:]:
            tokens, state = program(params, tokens, state, key)
            found.append(int(tokens[0, 0]))
    return Sampled(found, first_seconds, time.monotonic() - began)


def _tokens(encoding: Encoding, prompt: str) -> list[int]:
    if not isinstance(encoding, IdEncoding):
        return encoding.ids(encoding.encode([prompt.encode()])[0])
    words = [word.strip() for word in prompt.split(",")] if prompt else []
    if not all(word.isdecimal() and int(word) < encoding.vocab_size for word in words):
        raise ValueError(
            f"prompt {prompt[:80]!r}: the run knows token ids alone, 0 to "
            f"{encoding.vocab_size - 1}. Give some, comma separated."
        )
    return [int(word) for word in words]


def _text(encoding: Encoding, tokens: Sequence[int]) -> str:
    """As it may be shown on a terminal."""
    text = encoding.decode(tokens).decode(errors="replace")
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
