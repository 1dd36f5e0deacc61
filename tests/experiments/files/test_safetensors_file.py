# SPDX-License-Identifier: Apache-2.0
"""What begins with our header is read by the library."""

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from experiments.files.safetensors_file import header

ARRAYS = {
    "layers.10.b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "layers.2.a": np.full((1, 2, 1), -7.5, np.float32),
    "z": np.array([np.inf, 1e-45], np.float32),
}


@pytest.mark.parametrize("word", ["", "a", 'quotes " and ä', "x" * 300])
def test_names_shapes_numbers_and_words_are_read_as_they_were_given(tmp_path, word):
    shapes = [(name, array.shape) for name, array in ARRAYS.items()]
    head = header(shapes, {"word": word, "other": "2"})
    assert len(head) % 8 == 0
    data = head + b"".join(array.tobytes() for array in ARRAYS.values())
    found = safetensors.numpy.load(data)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata() == {"word": word, "other": "2"}
