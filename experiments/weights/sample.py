# SPDX-License-Identifier: Apache-2.0
"""isoflop sample: what a trained network writes after a prompt."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Key

from experiments.weights.find_run import manifest_of, require_next_token
from experiments.weights.load_model import LoadedModel
from model.data.encoding import Encoding, IdEncoding, open_encoding


@dataclass(frozen=True)
class Sampling:
    """How each next token is drawn, and how many.

    Attributes:
      n_tokens: at most; None: as many as a window of the run's training has room for.
      temperature: the logits are divided by it; 0 takes the most probable token.
      top_k: only so many of the most probable tokens; None: of all.
      top_p: of these, only the fewest that hold this much of their probability (nucleus sampling,
        Holtzman et al. 2020, arXiv:1904.09751); None: all.
      seed: of the draws.
    """

    n_tokens: int | None
    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int


class Sampled(NamedTuple):
    """The tokens drawn; seconds to the first, and from it to the last, programs being compiled."""

    tokens: list[int]
    first_seconds: float
    other_seconds: float


def continue_text(model: LoadedModel, prompt: str, sampling: Sampling) -> tuple[str, Sampled]:
    """The prompt and what follows, up to the end of the document; of a run on token ids, ids.

    The document begins with the prompt: it comes behind the separator that ended another.

    Args:
      prompt: text, or for a run on token ids these, comma separated; may be empty.

    Raises:
      ValueError: one line, if the network predicts no next token, the prompt is no text of the
        run's kind, or the two are too long.
    """
    require_next_token(model.point)
    encoding = open_encoding(manifest_of(model.ledger, model.point), model.ledger.data)
    begin, n_tokens = [encoding.separator, *_tokens(encoding, prompt)], sampling.n_tokens
    room = model.point.spec.model.seq_len - len(begin)
    if room < 1 or (n_tokens or 0) > room:
        raise ValueError(
            f"a prompt of {len(begin)} tokens and {n_tokens or 1} more: the network was trained on "
            f"{room + len(begin)} at a time. Ask for less."
        )
    sampled = sample(model, begin, n_tokens or room, sampling)
    found = sampled.tokens
    if encoding.separator in found:
        found = found[: found.index(encoding.separator)]
    return _text(encoding, [*begin[1:], *found]), sampled


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
        state = model.network.init_state(1, len(prompt) + n_tokens)
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


def draw(logits: Float[Array, " V"], key: Key[Array, ""], sampling: Sampling) -> Int[Array, ""]:
    """A token with probability proportional to exp(logit / temperature) among those allowed."""
    if sampling.temperature == 0:
        return jnp.argmax(logits).astype(jnp.int32)
    scaled = logits / sampling.temperature
    best, _ = jax.lax.top_k(scaled, sampling.top_k or scaled.size)
    if sampling.top_p is not None:
        likely = jax.nn.softmax(best)
        is_needed = jnp.cumsum(likely) - likely < sampling.top_p
        best = jnp.where(is_needed, best, jnp.inf)
    # Equals of the last one allowed are, too.
    scaled = jnp.where(scaled >= best.min(), scaled, -jnp.inf)
    return jax.random.categorical(key, scaled).astype(jnp.int32)


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
