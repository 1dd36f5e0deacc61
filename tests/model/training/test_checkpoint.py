# SPDX-License-Identifier: Apache-2.0
"""What is restored is what was saved, or an older step, or nothing: never a wrong value."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from model.config import ModelConfig
from model.training.checkpoint import Checkpoints
from model.training.config import TrainConfig
from model.training.optimizer import hyper_arrays
from model.training.step import TrainState, compile_program


def state_of(step: int) -> dict[str, Any]:
    """A small state that differs from step to step, with values that JSON could not hold."""
    rng = np.random.default_rng(step)
    return {
        "weights": jnp.asarray(rng.normal(size=(5, 3)), jnp.float32),
        "moments": [jnp.asarray([np.inf, -0.0, 1e-45], jnp.float32), jnp.float32(step)],
        "step": jnp.int32(step),
    }


def equal(found: Any, expected: Any) -> bool:
    """Same structure, dtypes and bits."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    is_same = jax.tree.structure(found) == jax.tree.structure(expected)
    return is_same and all(
        a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints of steps 3 and 8."""
    folder = tmp_path_factory.mktemp("saved")
    for step in (3, 8):
        Checkpoints(folder).save(step, state_of(step), {"step": step, "curve": [0.1, step / 3]})
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of ``saved``, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def only_newest(folder: Path) -> Path:
    """Step 8 alone, so that nothing but its own digest stands between damage and a value."""
    shutil.rmtree(folder / "3")
    (folder / "3.sha256").unlink()
    return folder


def restore(folder: Path) -> tuple:
    return Checkpoints(folder).restore(state_of(0))


def test_the_newest_step_comes_back_to_the_last_bit(folder: Path) -> None:
    (state, progress), notes = restore(folder)
    assert equal(state, state_of(8))
    assert progress == {"step": 8, "curve": [0.1, 8 / 3]}
    assert notes == []


def test_an_empty_folder_restores_nothing(tmp_path: Path) -> None:
    assert restore(tmp_path / "new") == (None, [])


def flip(path: Path, place: float, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)


def files_of_newest(folder: Path) -> list[Path]:
    files = [path for path in (folder / "8").rglob("*") if path.is_file()]
    return [folder / "8.sha256", *sorted(files)]


def test_a_flipped_bit_anywhere_is_found(only_newest: Path, tmp_path: Path) -> None:
    """Three places in each file, the highest bit among them: it makes bytes that are no text."""
    n_flips = 0
    for i in range(len(files_of_newest(only_newest))):
        for place, bit in ((0.0, 7), (0.5, i % 8), (1.0, 0)):
            copy = Path(shutil.copytree(only_newest, tmp_path / f"{i}-{bit}-{place}"))
            damaged = files_of_newest(copy)[i]
            flip(damaged, place, bit)
            expected = (None, ["checkpoint of step 8 is damaged; passed over."])
            assert restore(copy) == expected, (damaged.relative_to(copy), place, bit)
            n_flips += 1
    assert n_flips >= 30


def test_a_truncated_emptied_or_deleted_file_is_found(only_newest: Path, tmp_path: Path) -> None:
    damages: dict[str, Callable[[Path], object]] = {
        "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
        "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        "emptied": lambda path: path.write_bytes(b""),
        "deleted": Path.unlink,
    }
    for i in range(len(files_of_newest(only_newest))):
        for name, damage in damages.items():
            copy = Path(shutil.copytree(only_newest, tmp_path / f"{name}{i}"))
            damaged = files_of_newest(copy)[i]
            damage(damaged)
            found, notes = restore(copy)
            assert found is None, (damaged.relative_to(copy), name)
            assert len(notes) == 1


@pytest.mark.parametrize("place", [0.1, 0.4, 0.7])
def test_behind_a_damaged_step_the_older_one_is_restored_with_a_note(
    folder: Path, place: float
) -> None:
    largest = max(files_of_newest(folder), key=lambda path: path.stat().st_size)
    flip(largest, place, 3)
    (state, progress), notes = restore(folder)
    assert equal(state, state_of(3))
    assert progress["step"] == 3
    assert notes == ["checkpoint of step 8 is damaged; passed over."]
    assert sorted(path.name for path in folder.iterdir()) == ["3", "3.sha256"]


def test_a_file_added_is_damage(only_newest: Path) -> None:
    (only_newest / "8" / "more").write_bytes(b"")
    assert restore(only_newest)[0] is None


def test_a_file_of_another_name_is_damage(only_newest: Path) -> None:
    last = files_of_newest(only_newest)[-1]
    last.rename(last.with_name(last.name + "0"))
    assert restore(only_newest)[0] is None


def test_a_step_whose_files_are_gone_is_passed_over(folder: Path) -> None:
    shutil.rmtree(folder / "8")
    (state, _), notes = restore(folder)
    assert equal(state, state_of(3))
    assert notes == ["checkpoint of step 8 is damaged; passed over."]


def test_a_step_without_digest_is_removed_with_a_note(folder: Path) -> None:
    (folder / "8.sha256").unlink()
    (folder / "9.orbax-checkpoint-tmp").mkdir()
    (state, _), notes = restore(folder)
    assert equal(state, state_of(3))
    assert notes == [
        "unfinished checkpoint 8 removed.",
        "unfinished checkpoint 9.orbax-checkpoint-tmp removed.",
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["3", "3.sha256"]


@pytest.mark.parametrize("keep", [1, 2])
def test_only_the_newest_steps_stay(tmp_path: Path, keep: int) -> None:
    checkpoints = Checkpoints(tmp_path, keep=keep)
    for step in (2, 9, 10):
        checkpoints.save(step, state_of(step), {})
    newest = [10, 9][:keep]
    assert checkpoints.steps() == newest
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {str(step) for step in newest} | {f"{step}.sha256" for step in newest}


def test_a_step_may_be_saved_again(folder: Path) -> None:
    Checkpoints(folder).save(8, state_of(77), {"step": 8})
    (state, progress), _ = restore(folder)
    assert equal(state, state_of(77))
    assert progress == {"step": 8}


def test_a_deleted_folder_is_gone_and_deleting_twice_is_no_error(folder: Path) -> None:
    checkpoints = Checkpoints(folder)
    checkpoints.delete()
    checkpoints.delete()
    assert not folder.exists()


MESHES = {"one": (1, 1, 1, 1), "2x2x2": (1, 2, 2, 2), "1x8x1": (1, 1, 8, 1)}


@pytest.mark.parametrize(
    ("before", "after"),
    [("one", "one"), ("2x2x2", "2x2x2"), ("2x2x2", "1x8x1"), ("2x2x2", "one"), ("one", "2x2x2")],
)
def test_a_training_state_comes_back_on_its_own_mesh_and_on_another(
    network_config: ModelConfig,
    train_config: TrainConfig,
    tmp_path: Path,
    before: str,
    after: str,
) -> None:
    def initial(mesh: str, seed: int) -> TrainState:
        program = compile_program(network_config, "float32", MESHES[mesh])
        with jax.set_mesh(program.mesh):
            return program.init(jax.random.key(seed), hyper_arrays(train_config))

    state, like = initial(before, 0), initial(after, 1)
    Checkpoints(tmp_path).save(5, state, {})
    (found, _), _ = Checkpoints(tmp_path).restore(like)
    assert equal(found, state)
    for leaf, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(like), strict=True):
        assert leaf.sharding == wanted.sharding
