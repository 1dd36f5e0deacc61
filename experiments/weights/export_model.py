# SPDX-License-Identifier: Apache-2.0
"""isoflop export-model: a trained network as Hugging Face's transformers load it."""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy

from experiments.files.storage import Storage
from experiments.weights.find_run import find_run, manifest_of, require_objective
from experiments.weights.load_model import read_weights
from model.data.tokens.encoding import TOKENIZER_FILE, FileEncoding, open_encoding
from model.network.hugging_face import config_of, weights_of


def export_model(run: str, to: Path, *, results: Path = Path("results")) -> str:
    """Writes model.safetensors and config.json into a folder; returns the class that loads them.

    So it does tokenizer.json and tokenizer_config.json, where the run has tokens of a tokenizer.

    Args:
      run, results: see find_run.
      to: made where it is missing; what it has by these names is replaced.

    Raises:
      ValueError: one line, if the run has no weights, or its network is none of theirs; or if the
        data of the study are no longer those of the run.
      OSError: if the folder cannot be written.
    """
    ledger, point = find_run(run, results)
    require_objective(point, "next_token")
    config = config_of(point.spec.model)
    theirs = weights_of(point.spec.model, read_weights(ledger, point))
    arrays = {name: np.ascontiguousarray(array) for name, array in theirs.items()}
    encoding = open_encoding(manifest_of(ledger, point), ledger.data)
    folder = Storage(to)
    folder.replace("model.safetensors", safetensors.numpy.save(arrays, {"format": "pt"}))
    folder.replace("config.json", (json.dumps(config, indent=2) + "\n").encode())
    if isinstance(encoding, FileEncoding):
        kind = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": encoding.separator_text}
        folder.replace(TOKENIZER_FILE, encoding.json.encode())
        folder.replace("tokenizer_config.json", (json.dumps(kind, indent=2) + "\n").encode())
    return str(config["architectures"][0])
