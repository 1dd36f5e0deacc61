# SPDX-License-Identifier: Apache-2.0
import math

import msgspec
import pytest

from experiments.files.checked_json import Damaged, decode, encode, read, text_of, with_checksum
from experiments.files.storage import Storage


class Speeds(msgspec.Struct, frozen=True):
    name: str
    by_size: dict[int, float]
    least: float | None = None


MADE = Speeds(name="a b", by_size={1: 0.1, 2: 3e-7})


def test_a_record_is_read_back_and_a_missing_one_is_none(tmp_path):
    place = Storage(tmp_path)
    assert read(place, "a.json", Speeds, way_out="") is None
    place.replace("a.json", encode(MADE))
    assert read(place, "a.json", Speeds, way_out="") == MADE
    assert text_of(with_checksum('{"a": 1}')) == b'{"a": 1}'


def test_every_flipped_bit_and_every_cut_is_named_with_the_way_out(tmp_path):
    place, good = Storage(tmp_path), encode(MADE)
    cuts = [good[:length] for length in range(len(good))]
    for position in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[position // 8] ^= 1 << position % 8
        cuts.append(bytes(flipped))
    for bad in cuts:
        (tmp_path / "a.json").write_bytes(bad)  # `replace` would wait for the disk each time.
        with pytest.raises(Damaged) as refused:
            read(place, "a.json", Speeds, way_out="Delete it.")
        assert str(refused.value) == f"{tmp_path}/a.json is damaged. Delete it."


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_has_not_is_never_written(value):
    with pytest.raises(ValueError, match="JSON"):
        encode(msgspec.structs.replace(MADE, least=value))


WRONG = (
    ('{"name":"a","by_size":{},"least":null,"most":1}', "no field 'most'"),
    ('{"name":"a","by_size":{"x":1.0}}', "int"),
    ('{"name":"a"}', "by_size"),
    ('{"name":"a","name":"b","by_size":{}}', "twice"),
    ('{"name":"a","by_size":{"1":NaN}}', "nan"),
    ("[1]", "Expected"),
)


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_has_its_checksum_and_is_no_such_record_is_refused_in_one_line(text, words):
    with pytest.raises(Damaged, match=rf"a\.json is not what it should be.*{words}") as refused:
        decode(with_checksum(text), Speeds, "a.json", way_out="Delete it.")
    assert str(refused.value).endswith("Delete it.")
    assert "\n" not in str(refused.value)


def test_the_same_record_in_other_words_is_read():
    text = '{"by_size": {"2": 3e-7, "1": 1e-1}, "name": "a\\u0020b"}'
    assert decode(with_checksum(text), Speeds, "a", way_out="") == MADE
