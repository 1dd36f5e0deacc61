# SPDX-License-Identifier: Apache-2.0
"""isoflop sample: what a trained network writes after a prompt."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from experiments.weights.find_run import manifest_of, require_next_token
from experiments.weights.load_model import LoadedModel
from model.data.source import Source, StdlibText, TextFiles, source_from_dict


def continue_text(
    model: LoadedModel, prompt: str, n_tokens: int | None, temperature: float, seed: int
) -> str:
    """The prompt and what follows, up to the end of the document; of a run on token ids, ids.

    The document begins with the prompt: it comes behind the separator that ended another.

    Args:
      prompt: text, or for a run on token ids these, comma separated; may be empty.
      n_tokens: at most so many more; None: as many as a window of the run's training has room for.
      temperature, seed: see ``sample``.

    Raises:
      ValueError: one line, if the network predicts no next token, the prompt is no text of the
        run's kind, or the two are too long.
    """
    require_next_token(model.point)
    source = source_from_dict(manifest_of(model.ledger, model.point).source)
    begin = [source.separator, *_tokens(source, prompt)]
    room = model.point.spec.model.seq_len - len(begin)
    if room < 1 or (n_tokens or 0) > room:
        raise ValueError(
            f"a prompt of {len(begin)} tokens and {n_tokens or 1} more: the network was trained on "
            f"{room + len(begin)} at a time. Ask for less."
        )
    found = sample(model, begin, n_tokens or room, temperature, seed)
    if source.separator in found:
        found = found[: found.index(source.separator)]
    return _text(source, [*begin[1:], *found])


def sample(
    model: LoadedModel, prompt: Sequence[int], n_tokens: int, temperature: float, seed: int
) -> list[int]:
    """The next tokens, one by one, each given all before it.

    Args:
      prompt: one token at least.
      temperature: the logits are divided by it; 0 takes the most probable token.
      seed: of the draws.
    """
    graphdef, params = nnx.split(model.network)
    step = jax.jit(lambda params, tokens, state: nnx.merge(graphdef, params).step(tokens, state))
    key, found = jax.random.key(seed), []
    with model.context():
        state = model.network.init_state(1, len(prompt) + n_tokens)
        tokens = jnp.asarray([prompt], jnp.int32)
        for i in range(n_tokens):
            logits, state = step(params, tokens, state)
            drawn = draw(logits[0, -1], jax.random.fold_in(key, i), temperature)
            found.append(int(drawn))
            tokens = drawn.reshape(1, 1)
    return found


def draw(logits: Float[Array, " V"], key: Key[Array, ""], temperature: float) -> Int[Array, ""]:
    """A token with probability proportional to exp(logit / temperature)."""
    if temperature == 0:
        return jnp.argmax(logits).astype(jnp.int32)
    return jax.random.categorical(key, logits / temperature).astype(jnp.int32)


def _is_text(source: Source) -> bool:
    return isinstance(source, StdlibText | TextFiles)


def _tokens(source: Source, prompt: str) -> list[int]:
    if _is_text(source):
        return list(prompt.encode())
    words = [word.strip() for word in prompt.split(",")] if prompt else []
    if not all(word.isdecimal() and int(word) < source.vocab_size for word in words):
        raise ValueError(
            f"prompt {prompt[:80]!r}: the run knows token ids alone, 0 to {source.vocab_size - 1}. "
            "Give some, comma separated."
        )
    return [int(word) for word in words]


def _text(source: Source, tokens: Sequence[int]) -> str:
    """As it may be shown on a terminal."""
    if not _is_text(source):
        return ",".join(map(str, tokens))
    text = np.asarray(tokens, np.uint8).tobytes().decode(errors="replace")
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
