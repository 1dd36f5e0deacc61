# SPDX-License-Identifier: Apache-2.0
"""What is loaded is what was trained, by whatever name; what cannot be is said in a line."""

import dataclasses
import hashlib

import jax
import msgspec
import numpy as np
import pytest
from command_line import is_one_line

from experiments.ledger.ledger import weights_key
from experiments.weights.find_run import find_run, require_objective
from experiments.weights.load_model import load_model
from model.data.corpus import open_corpus
from model.data.manifest import Manifest


def nats(logits, targets):
    """Cross-entropy of each target, in NumPy's float64."""
    logits = np.asarray(logits, np.float64)
    largest = logits.max(axis=-1, keepdims=True)
    log_z = np.log(np.exp(logits - largest).sum(axis=-1)) + largest[..., 0]
    return log_z - np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]


def validation(ledger, point):
    corpus = open_corpus(Manifest.read(ledger.manifest), ledger.data)
    asked = point.spec.train.evaluation
    return corpus.validation_windows(asked.n_tokens, point.spec.model.seq_len, asked.seed)


def test_the_weights_are_those_of_the_last_step_to_the_bit(small, model, point):
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(model._params):
        assert leaf.dtype == np.float32
        total.update(np.asarray(leaf).tobytes())
    assert total.hexdigest() == small[0].read_result(point.id).params_sha256


def test_its_logits_have_the_loss_that_the_run_recorded(small, model, point):
    """Seen: 2e-8, where sums are float32."""
    ledger, _ = small
    windows = validation(ledger, point)
    found = nats(model(windows[:, :-1]), windows[:, 1:]).mean()
    assert found == pytest.approx(ledger.read_result(point.id).loss_nats, abs=1e-6)


def test_tokens_that_the_vocabulary_or_a_window_lacks_are_refused(model):
    with pytest.raises(ValueError, match="tokens 3 to 256: 0 to 255"):
        model(np.array([[3, 256]]))
    with pytest.raises(ValueError, match="17 tokens: the network was trained on 16 at a time"):
        model(np.zeros((1, 17), int))


@pytest.mark.parametrize("objective", ["masked", "translation"])
def test_a_network_of_another_objective_is_not_taken_for_one_that_writes(point, objective):
    assert require_objective(point, "next_token", "diffusion") == "next_token"
    train = dataclasses.replace(point.spec.train)
    object.__setattr__(train, "objective", objective)
    spec = dataclasses.replace(point.spec)
    object.__setattr__(spec, "train", train)
    with pytest.raises(
        ValueError, match=rf"was trained for {objective}: this needs.* for next_token or diff"
    ):
        require_objective(dataclasses.replace(point, spec=spec), "next_token", "diffusion")


@pytest.fixture
def names(small, tmp_path, monkeypatch):
    """Of the first run: a folder, a relative folder, its whole id, its beginning."""
    ledger, points = small
    monkeypatch.chdir(ledger.results.parent)
    first, second = (point.id for point in points)
    n = next(n for n in range(1, 17) if first[:n] != second[:n])
    folder = f"results/small/runs/{first}"
    return {
        "folder": str(ledger.results.parent / folder),
        "relative": folder,
        "end": f"{folder}/",
        "whole": f"small:{first}",
        "beginning": f"small:{first[:n]}",
    }


@pytest.mark.parametrize("how", ["folder", "relative", "end", "whole", "beginning"])
def test_a_run_has_two_kinds_of_name(names, point, how):
    ledger, found = find_run(names[how])
    assert found == point
    assert ledger.folder.name == "small"


UNKNOWN = (
    ("nothing", "no run 'nothing'. Give the folder of a run, results/STUDY/runs/ID, or STUDY:ID"),
    (":ab", "no run ':ab'"),
    ("results/small", "no run 'results/small'"),
    ("large:ab", "large has no runs"),
    ("small:xyz", "no run of the 2 in"),
    ("small:", "2 runs begin with ''"),
    ("results/small/runs/none", "no run 'results/small/runs/none'"),
    ("nothing.py:ab", "there is no file 'nothing.py'"),
)


@pytest.mark.parametrize(("name", "words"), UNKNOWN, ids=[name for name, _ in UNKNOWN])
def test_a_name_of_no_run_or_of_several_is_one_line(isoflop, copy, name, words):
    (copy.folder / "a.txt").write_text("a" * 99)
    code, out, err = isoflop("evaluate", name, "--data", str(copy.folder / "a.txt"))
    assert (code, out) == (2, "")
    assert is_one_line(err)
    assert words in err


def test_a_study_may_be_named_by_its_file(isoflop, copy, point, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\nfrom experiments.studies.quickstart import STUDY\n"
        "STUDY = replace(STUDY, name='small')\n"
    )
    (tmp_path / "a.txt").write_text("a" * 99)
    code, out, err = isoflop("evaluate", f"mine.py:{point.id}", "--data", "a.txt")
    assert (code, err) == (0, "")
    assert "nats per token" in out


def flipped(copy, key):
    path = copy.folder / key
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def recorded(**changes):
    def change(copy, key):
        name = key.split("/")[1]
        result = copy.read_result(name)
        (copy.folder / "runs" / name / "result.json").unlink()
        copy.write_result(name, msgspec.structs.replace(result, **changes))

    return change


NOT_THERE = {
    "damaged": (flipped, "weights.safetensors is damaged"),
    "gone": (lambda copy, key: (copy.folder / key).unlink(), "weights.safetensors is gone"),
    "not kept": (recorded(weights_sha256=""), "no weights were kept"),
    "diverged": (
        recorded(weights_sha256="", status="diverged", reason="loss is NaN"),
        "diverged and has no weights: loss is NaN",
    ),
    "no result": (
        lambda copy, key: (copy.folder / key).with_name("result.json").unlink(),
        "has no result yet",
    ),
}


@pytest.mark.parametrize(("change", "words"), NOT_THERE.values(), ids=NOT_THERE)
def test_weights_that_are_not_there_or_not_whole_are_one_line(copy, point, change, words):
    change(copy, weights_key(point.id))
    with pytest.raises(ValueError, match=words) as error:
        load_model(f"small:{point.id}", results=copy.results)
    assert "\n" not in str(error.value)
