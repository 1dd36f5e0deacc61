# SPDX-License-Identifier: Apache-2.0
"""One digest of the same numbers, wherever they lie, and no device ever has all of them."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from model.network.sharding import make_mesh
from model.training.checkpoints import digest
from model.training.checkpoints.digest import gathered_parts, params_sha256

SHAPE = (4, 4, 4, 6)
MESHES = [
    ((1, 1, 1, 1), P()),
    ((2, 1, 2, 2), P(None, "fsdp", None, "tensor")),
    ((1, 2, 2, 2), P(None, None, ("data", "fsdp"), "tensor")),
    ((2, 2, 2, 1), P("run", "fsdp")),
]


def numbers(dtype: str = "float32") -> np.ndarray:
    """With bits that a sum over devices could lose: -0, NaN, a subnormal."""
    values = np.random.default_rng(0).normal(size=SHAPE).astype(dtype)
    values[0, 0, 0, :3] = -0.0, np.nan, 1e-45
    return values


def placed(values: np.ndarray, mesh: tuple[int, ...], spec: P) -> jax.Array:
    return jax.device_put(values, NamedSharding(make_mesh(mesh), spec))


@pytest.mark.parametrize(("mesh", "spec"), MESHES)
@pytest.mark.parametrize(
    "part_bytes",
    [
        4,
        3 * 24,  # Of four rows three, and then the last again with two before it.
        *(pytest.param(n, marks=pytest.mark.slow(reason="as others")) for n in (100, 10**6)),
    ],
)
def test_parts_are_the_bytes_of_the_whole_in_order(
    mesh: tuple[int, ...], spec: P, part_bytes: int
) -> None:
    values, n_runs = numbers(), 4 if spec[:1] == ("run",) else 1
    array, found = placed(values, mesh, spec), [b""] * n_runs
    for run, part in gathered_parts(array, n_runs, part_bytes):
        assert part.nbytes <= part_bytes
        found[run] += part.tobytes()
    assert found == [one.tobytes() for one in (values if n_runs > 1 else [values])]


def test_numbers_of_two_bytes_keep_theirs() -> None:
    values = numbers("float16")
    parts = gathered_parts(placed(values, *MESHES[1]), 1, 1000)
    assert b"".join(part.tobytes() for _, part in parts) == values.tobytes()


@pytest.mark.parametrize(("mesh", "spec"), MESHES[1:])
def test_a_device_holds_its_share_and_parts_only(mesh: tuple[int, ...], spec: P) -> None:
    array = placed(np.zeros((8, 64, 32, 16), np.float32), mesh, spec)
    sizes = (1, 4, 32, 16)
    part, place = 4 * int(np.prod(sizes)), jax.ShapeDtypeStruct((4,), jnp.int32)
    lowered = digest._part.lower(array, place, sizes, array.sharding)
    needed = lowered.compile().memory_analysis()
    assert needed.output_size_in_bytes + needed.temp_size_in_bytes <= 4 * part < array.nbytes / 8


@pytest.mark.parametrize("n_runs", [1, 4])
@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["here", "elsewhere too"])
def test_the_digest_is_of_the_numbers_and_not_of_the_mesh(
    n_runs: int, is_elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is that of version 0.1: all bytes of a run, one array after the other."""
    if is_elsewhere:  # As it is computed where other processes have parts.
        monkeypatch.setattr(digest, "_parts", gathered_parts)
    values = {"a": numbers(), "b": numbers()[:, ::-1] * 2}
    expected = [
        hashlib.sha256(b"".join(np.ascontiguousarray(x[run]).tobytes() for x in values.values()))
        for run in range(4)
    ]
    if n_runs == 1:
        expected = [hashlib.sha256(b"".join(x.tobytes() for x in values.values()))]
    for mesh, spec in (MESHES[0], MESHES[-1]) if n_runs > 1 else MESHES[:-1]:
        params = nnx.State({name: placed(x, mesh, spec) for name, x in values.items()})
        taken: list[bytes] = []
        # The last run alone gives its bytes to somebody.
        takers = {n_runs - 1: taken.append}
        assert params_sha256(params, n_runs, takers) == [one.hexdigest() for one in expected]
        assert hashlib.sha256(b"".join(taken)).hexdigest() == expected[-1].hexdigest()
