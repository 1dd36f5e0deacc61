# SPDX-License-Identifier: Apache-2.0
"""What is restored is what was saved, or an older step, or nothing: never a wrong value."""

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from model.network.config import ModelConfig
from model.training.checkpoints import checkpoint_files
from model.training.checkpoints.checkpoint import Checkpoints
from model.training.checkpoints.checkpoint_files import Saved
from model.training.compile_program import compile_program
from model.training.config import TrainConfig
from model.training.optimizers.optimizer import hyper_arrays
from model.training.step import TrainState

DAMAGED = "checkpoint 8-1 is damaged; passed over."


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


def save(folder: Path, step: int, state: Any, progress: Any = None, **options: int) -> Checkpoints:
    """Saves, and waits until it counts."""
    checkpoints = Checkpoints(folder, **options)
    checkpoints.save(step, state, progress or {})
    checkpoints.finish()
    return checkpoints


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints of steps 3 and 8."""
    folder = tmp_path_factory.mktemp("saved")
    for step in (3, 8):
        save(folder, step, state_of(step), {"step": step, "curve": [0.1, step / 3]})
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of ``saved``, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def only_newest(folder: Path) -> Path:
    """Step 8 alone, so that nothing but its own digest stands between damage and a value."""
    shutil.rmtree(folder / "3-1")
    (folder / "3-1.sha256").unlink()
    return folder


def restore(folder: Path, *, attempt: int = 1) -> tuple:
    """Attempt 0 removes nothing: it is older than all."""
    return Checkpoints(folder, attempt=attempt).restore(state_of(0))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_step_comes_back_to_the_last_bit(folder: Path) -> None:
    (state, progress), notes = restore(folder)
    assert equal(state, state_of(8))
    assert progress == {"step": 8, "curve": [0.1, 8 / 3]}
    assert notes == []


def test_an_empty_folder_restores_nothing(tmp_path: Path) -> None:
    assert restore(tmp_path / "new") == (None, [])


def files_of_newest(folder: Path) -> list[Path]:
    files = [path for path in (folder / "8-1").rglob("*") if path.is_file()]
    return [folder / "8-1.sha256", *sorted(files)]


def test_one_flipped_bit_at_16_places_of_every_file_is_found(only_newest: Path) -> None:
    """First and last byte among them; the highest bit too, which makes bytes that are no text."""
    n_flips = 0
    for path in files_of_newest(only_newest):
        intact = path.read_bytes()
        for i in range(16):
            content = bytearray(intact)
            content[round(i / 15 * (len(content) - 1))] ^= 1 << i % 8
            path.write_bytes(content)
            assert restore(only_newest, attempt=0) == (None, [DAMAGED]), (path, i)
            n_flips += 1
        path.write_bytes(intact)
    assert n_flips >= 16 * 10
    assert equal(restore(only_newest)[0][0], state_of(8))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.write_bytes(b""),
        Path.unlink,
    ],
    ids=["cut in half", "cut by a byte", "longer", "emptied", "deleted"],
)
def test_behind_any_damaged_file_the_older_step_is_restored_with_a_note(
    folder: Path, damage: Callable[[Path], object]
) -> None:
    for path in files_of_newest(folder):
        intact = path.read_bytes()
        damage(path)
        (state, progress), notes = restore(folder, attempt=0)
        assert equal(state, state_of(3)), path
        assert progress["step"] == 3
        without_digest = path.suffix == ".sha256" and not path.exists()
        assert notes == ["unfinished checkpoint 8-1 passed over." if without_digest else DAMAGED]
        path.write_bytes(intact)


def test_a_damaged_step_is_removed_and_the_older_one_stays(folder: Path) -> None:
    (folder / "8-1.sha256").write_text("0" * 64)
    assert restore(folder)[0][1]["step"] == 3
    assert names(folder) == ["3-1", "3-1.sha256"]


def test_an_empty_folder_more_or_less_is_damage(only_newest: Path) -> None:
    (only_newest / "8-1" / "more").mkdir()
    assert restore(only_newest)[0] is None


def test_a_file_added_is_damage(only_newest: Path) -> None:
    (only_newest / "8-1" / "more").write_bytes(b"")
    assert restore(only_newest)[0] is None


def test_a_file_of_another_name_is_damage(only_newest: Path) -> None:
    last = files_of_newest(only_newest)[-1]
    last.rename(last.with_name(last.name + "0"))
    assert restore(only_newest)[0] is None


def test_a_step_whose_files_are_gone_is_passed_over(folder: Path) -> None:
    shutil.rmtree(folder / "8-1")
    (state, _), notes = restore(folder)
    assert equal(state, state_of(3))
    assert notes == ["checkpoint 8-1 is damaged; passed over."]


def leave_unfinished(folder: Path) -> None:
    """What kills leave: a step without digest, one that Orbax was writing, half a digest."""
    (folder / "8-1.sha256").rename(folder / "8-1.tmp")
    (folder / "9-1.orbax-checkpoint-tmp").mkdir()


def test_a_step_without_digest_is_passed_over_with_a_note(folder: Path) -> None:
    leave_unfinished(folder)
    (state, _), notes = restore(folder)
    assert equal(state, state_of(3))
    assert notes == [f"unfinished checkpoint {name} passed over." for name in ("9-1", "8-1")]


def test_the_next_save_clears_what_unfinished_ones_left(folder: Path) -> None:
    leave_unfinished(folder)
    save(folder, 8, state_of(8), attempt=2)
    assert names(folder) == ["3-1", "3-1.sha256", "8-2", "8-2.sha256"]


def test_files_of_other_names_are_left_alone(folder: Path) -> None:
    for name in ("notes.txt", "old.sha256", "7.sha256", "-1-1.sha256"):
        (folder / name).write_text("")
    assert restore(folder)[1] == []
    save(folder, 9, state_of(9))
    assert len(names(folder)) == 4 + 4


def test_of_equal_steps_the_latest_attempt_is_restored(folder: Path) -> None:
    save(folder, 8, state_of(82), attempt=2)
    save(folder, 8, state_of(810), attempt=10)
    assert equal(restore(folder)[0][0], state_of(810))
    assert Checkpoints(folder, keep=9).steps() == [8]


def test_an_earlier_attempt_removes_nothing_of_a_later_one(folder: Path) -> None:
    save(folder, 9, state_of(9), attempt=3, keep=1)
    (folder / "9-3.sha256").write_text("damaged")
    (folder / "10-3.orbax-checkpoint-tmp").mkdir()
    before = names(folder)
    restore(folder, attempt=2)
    save(folder, 11, state_of(11), attempt=2, keep=1)
    assert set(names(folder)) >= set(before)
    assert names(folder) == sorted([*before, "11-2", "11-2.tmp"])


def test_pruning_neither_counts_nor_removes_what_a_later_attempt_wrote(folder: Path) -> None:
    save(folder, 9, state_of(9), attempt=3, keep=3)
    checkpoint_files.prune(folder, 2, keep=1)
    assert names(folder) == ["8-1", "8-1.sha256", "9-3", "9-3.sha256"]


def test_an_attempt_that_was_halted_while_it_saved_vouches_for_nothing_when_it_wakes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = checkpoint_files.finish

    def wake_late(folder: Path, saved: Saved, digest: str) -> bool:
        monkeypatch.undo()
        save(folder, 8, state_of(82), attempt=2)
        (folder / str(saved)).mkdir(exist_ok=True)  # TensorStore makes folders that are missing.
        return finish(folder, saved, digest)

    monkeypatch.setattr(checkpoint_files, "finish", wake_late)
    save(folder, 12, state_of(12))
    assert Checkpoints(folder).steps() == [8]
    assert equal(restore(folder)[0][0], state_of(82))


def test_data_are_durable_before_their_digest_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file and folder of the step is flushed, then the digest, and then it gets its name."""
    flushed: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        flushed.append(path.relative_to(tmp_path).as_posix())
        fsync(descriptor)

    def note_replacing(path: Path, target: Path) -> Path:
        if path.suffix == ".tmp":
            flushed.append("digest appears")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "replace", note_replacing)
    save(tmp_path, 5, state_of(5))
    below = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "5-1").rglob("*")}
    at = flushed.index("digest appears")
    assert {*below, "5-1", "."} <= set(flushed[:at])
    assert flushed[at - 1 :] == ["5-1.tmp", "digest appears", "."]


def test_an_intact_checkpoint_of_another_state_raises(folder: Path) -> None:
    like = {"weights": jnp.zeros((4, 3)), "moments": [jnp.zeros(3), jnp.zeros(())]}
    with pytest.raises(ValueError, match=r"shape|structure"):
        Checkpoints(folder).restore(like)
    assert Checkpoints(folder).steps() == [8, 3]


@pytest.mark.parametrize("keep", [1, 2])
def test_only_the_newest_steps_stay(tmp_path: Path, keep: int) -> None:
    for step in (2, 9, 10):
        checkpoints = save(tmp_path, step, state_of(step), keep=keep)
    newest = [10, 9][:keep]
    assert checkpoints.steps() == newest
    assert set(names(tmp_path)) == {f"{step}-1{end}" for step in newest for end in ("", ".sha256")}


def test_a_step_may_be_saved_again(folder: Path) -> None:
    save(folder, 8, state_of(77), {"step": 8})
    (state, progress), _ = restore(folder)
    assert equal(state, state_of(77))
    assert progress == {"step": 8}


@pytest.mark.parametrize("when", ["save", "close"], ids=["at once", "behind"])
def test_a_disk_that_is_full_is_told_as_such(
    folder: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """As Orbax's own writers put it; they raise ValueError."""
    words = "RESOURCE_EXHAUSTED: Error writing local file: No space left [os_error_code='28']"

    def full(checkpointer: ocp.AsyncCheckpointer, *_: object) -> None:
        checkpointer.wait_until_finished()
        raise ValueError(words)

    monkeypatch.setattr(ocp.AsyncCheckpointer, when, full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save(folder, 9, state_of(9))
    assert caught.value.errno == errno.ENOSPC
    words = "another reason"
    with pytest.raises(ValueError, match="another reason"):
        save(folder, 10, state_of(10))
    assert Checkpoints(folder).steps() == [8, 3]


@pytest.mark.parametrize("name", ["9-1", "state"])
def test_where_a_folder_cannot_be_made_no_thread_waits_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A process that ends would wait for that thread: five minutes, by Orbax."""
    before, mkdir = set(threading.enumerate()), os.mkdir

    def full(path: str | Path, *args: object, **options: object) -> None:
        if Path(path).name == f"{name}.orbax-checkpoint-tmp":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        mkdir(path, *args, **options)

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(OSError, match="No space left on device"):
        save(folder, 9, state_of(9))
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith(("ThreadPoolExecutor", "metadata_store")):
            thread.join(5)
            assert not thread.is_alive()


def test_what_is_saved_is_what_the_devices_held_at_that_moment(
    folder: Path, halted_writer: threading.Event
) -> None:
    """They are given away, as to a step, before a byte is written. On a CPU the copy is a view of
    their memory, and JAX computes elsewhere instead."""
    checkpoints, state = Checkpoints(folder), state_of(9)
    checkpoints.save(9, state, {})
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + x, state), donate_argnums=0)
    state = jax.block_until_ready(step(state))
    assert not checkpoints.is_written
    halted_writer.set()
    checkpoints.finish()
    assert equal(restore(folder)[0][0], state_of(9))


def test_what_was_cut_off_while_it_was_written_is_passed_over(
    folder: Path, tmp_path: Path, halted_writer: threading.Event
) -> None:
    """Before its first byte, and before its digest; a copy stands for what a kill leaves."""
    checkpoints = Checkpoints(folder)
    checkpoints.save(9, state_of(9), {})
    early = shutil.copytree(folder, tmp_path / "early")
    halted_writer.set()
    while not checkpoints.is_written:
        time.sleep(0.01)
    late = shutil.copytree(folder, tmp_path / "late")
    assert not (early / "9-1").exists()
    assert (late / "9-1").exists()
    for left in (early, late):
        (state, _), notes = restore(left)
        assert equal(state, state_of(8))
        assert notes == ["unfinished checkpoint 9-1 passed over."]
    checkpoints.finish()
    assert equal(restore(folder)[0][0], state_of(9))


def test_no_two_are_written_at_once(folder: Path) -> None:
    checkpoints = Checkpoints(folder)
    for step in (9, 10):
        checkpoints.save(step, state_of(step), {})
    assert checkpoints.steps() == [9, 8]
    checkpoints.finish()
    assert checkpoints.steps() == [10, 9]
    assert checkpoints.finish() is None


MESHES = {"one": (1, 1, 1, 1), "2x2x2": (1, 2, 2, 2), "1x8x1": (1, 1, 8, 1)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2x2x2", "1x8x1"),
        ("one", "2x2x2"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow(reason="as from one mesh to another"))
            for pair in (("one", "one"), ("2x2x2", "2x2x2"), ("2x2x2", "one"))
        ),
    ],
)
def test_a_training_state_comes_back_on_its_own_mesh_and_on_another(
    network_config: ModelConfig,
    train_config: TrainConfig,
    tmp_path: Path,
    before: str,
    after: str,
) -> None:
    def initial(mesh: str, seed: int) -> TrainState:
        program = compile_program(network_config, train_config, MESHES[mesh])
        with jax.set_mesh(program.mesh):
            return program.init(jax.random.key(seed), hyper_arrays(train_config))

    state, like = initial(before, 0), initial(after, 1)
    save(tmp_path, 5, state)
    (found, _), _ = Checkpoints(tmp_path).restore(like)
    assert equal(found, state)
    for leaf, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(like), strict=True):
        assert leaf.sharding == wanted.sharding
