# SPDX-License-Identifier: Apache-2.0
"""The bound of absorbing diffusion against enumeration in NumPy float64, of a table."""

import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table_network import MASK, TEXTS, T, TableNetwork, V, log_p

from model.network.sharding import make_mesh
from model.training.objectives.diffusion import OBJECTIVE

SETS = [
    tuple(np.flatnonzero(bits).tolist())
    for bits in itertools.product((0, 1), repeat=T)
    if any(bits)
]
TEXT = (2, 0, 1, 1)


@pytest.fixture(autouse=True)
def mesh():
    with jax.set_mesh(make_mesh((1, 1, 1, 1))):
        yield


def state(text: tuple[int, ...], hidden: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(MASK if i in hidden else token for i, token in enumerate(text))


def nats(text: tuple[int, ...], hidden: tuple[int, ...]) -> float:
    """Of the hidden tokens, each given what is not hidden."""
    found = log_p(state(text, hidden))
    return -sum(found[i, text[i]] for i in hidden)


def over_times(of_time) -> float:
    """Integral over [0, 1], by Gauss and Legendre."""
    x, w = np.polynomial.legendre.leggauss(60)
    return float(sum(b / 2 * of_time((1 + a) / 2) for a, b in zip(x, w, strict=True)))


def chance(hidden: tuple[int, ...], t: float) -> float:
    """That just these are hidden, where each is with probability t."""
    return t ** len(hidden) * (1 - t) ** (T - len(hidden))


def mdlm(text: tuple[int, ...]) -> float:
    """MDLM's NELBO of a text, in nats: noise alpha = 1 - t."""
    return over_times(lambda t: sum(chance(one, t) / t * nats(text, one) for one in SETS))


def sedd(text: tuple[int, ...]) -> float:
    """SEDD's score entropy of absorbing noise, with another schedule: 1 - e^-sigma_bar = t^2.

    The score of a token at a masked position is p e^-sigma_bar / (1 - e^-sigma_bar); that of the
    data is the same with all of p on the token that is there. sigma is d sigma_bar / dt.
    """

    def at(t: float) -> float:
        is_hidden, sigma = t**2, 2.0 * t / (1.0 - t**2)
        ratio = (1.0 - is_hidden) / is_hidden
        total = 0.0
        for one in SETS:
            scores = ratio * np.exp(log_p(state(text, one)))
            for i in one:
                entropy = scores[i].sum() - ratio * np.log(scores[i, text[i]])
                entropy += ratio * (np.log(ratio) - 1.0)
                total += chance(one, is_hidden) * sigma * entropy
        return total

    return over_times(at)


def losses(text: tuple[int, ...], hidden: list[tuple[int, ...]]) -> np.ndarray:
    """What the objective minimises of a window in which these are hidden, one at a time."""

    @jax.jit
    def loss(weights):
        batch = {"tokens": jnp.asarray([text]), "weights": weights[None]}
        return OBJECTIVE.loss(TableNetwork(), batch, {"z_loss_weight": jnp.float32(0)}, 1).nats

    weights = np.zeros((len(hidden), T), np.float32)
    for row, one in zip(weights, hidden, strict=True):
        row[list(one)] = T / len(one)
    return np.array([loss(row) for row in weights])


def test_the_mean_over_numbers_and_sets_of_hidden_tokens_is_mdlms_bound():
    found = losses(TEXT, SETS)
    sizes = np.array([len(one) for one in SETS])
    by_size = [found[sizes == k].mean() for k in range(1, T + 1)]
    assert T * np.mean(by_size) == pytest.approx(mdlm(TEXT), rel=1e-6)


def test_sedds_score_entropy_under_another_schedule_is_the_same_number():
    assert sedd(TEXT) == pytest.approx(mdlm(TEXT), rel=1e-9)


def test_it_bounds_the_nats_of_the_text_from_above():
    """Those of the model of a random order: the mean over orders of the product of its steps."""
    for text in TEXTS[::20]:
        p = 0.0
        orders = list(itertools.permutations(range(T)))
        for order in orders:
            p += np.exp(
                sum(log_p(state(text, order[i:]))[order[i], text[order[i]]] for i in range(T))
            )
        assert -np.log(p / len(orders)) < mdlm(text)


def test_a_batch_has_every_number_of_hidden_tokens_alike_and_all_sets_of_a_number():
    batch = {"tokens": jnp.zeros((6 * T, T), jnp.int32)}
    counts: Counter[tuple[int, ...]] = Counter()
    draw = jax.jit(lambda key: OBJECTIVE.draw(batch, key, {})["weights"])
    for number in range(200):
        weights = np.asarray(draw(jax.random.key(number)))
        hidden = [tuple(np.flatnonzero(row).tolist()) for row in weights]
        assert np.bincount([len(one) for one in hidden], minlength=T + 1).tolist() == [0, *[6] * T]
        for row, one in zip(weights, hidden, strict=True):
            np.testing.assert_allclose(row[list(one)], T / len(one), rtol=1e-6)
        counts.update(hidden)
    for k in range(1, T + 1):
        of_size = np.array([counts[one] for one in SETS if len(one) == k])
        expected = 1200 / len(of_size)
        # The 99.9 % point of chi-squared of 5 degrees of freedom is 20.5.
        assert np.sum((of_size - expected) ** 2 / expected) < 20.5


def test_the_validation_windows_have_every_number_alike_whatever_the_batch():
    @jax.jit
    def measured(numbers):
        batch = {"tokens": jnp.tile(jnp.asarray([TEXT]), (len(numbers), 1))}
        return OBJECTIVE.evaluate(TableNetwork(), batch, numbers, 1)

    numbers = jnp.arange(4000, dtype=jnp.int32)
    for n in (40, 1000, 4000):
        drawn = np.asarray(OBJECTIVE.n_to_evaluate(numbers[:n], T))
        assert np.all(np.abs(np.bincount(drawn, minlength=T + 1)[1:] - n / T) <= 2)
    whole = measured(numbers)
    assert np.all(whole.is_unit)
    sums = np.asarray(whole.nats).sum(axis=1)
    # Four standard errors of the mean over windows.
    assert sums.mean() == pytest.approx(mdlm(TEXT), abs=float(4 * sums.std() / 4000**0.5))
    np.testing.assert_allclose(measured(numbers[70:103]).nats.sum(axis=1), sums[70:103], rtol=1e-6)


def test_the_mask_is_never_guessed():
    """The nats of all tokens that may stand at a place are those of probabilities that add to 1."""
    texts = [(token, 0, 1, 1) for token in range(V)]
    assert sum(np.exp(-losses(text, [(0,)])[0]) for text in texts) == pytest.approx(1, rel=1e-6)
