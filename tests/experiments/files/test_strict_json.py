# SPDX-License-Identifier: Apache-2.0
import json
from random import Random

import pytest

from experiments.files import strict_json

REFUSED = (
    ('{"a": NaN}', '"a" is nan'),
    ('[{"a": {"b": [1, [2, Infinity]]}}]', '"b" is inf'),
    ("Infinity", "is inf"),
    ("[-Infinity]", "is -inf"),
    ("[1, [[], NaN]]", "is nan"),
    ("1e999", "is inf"),
    ("-1" + "0" * 400 + ".0", "is -inf"),
    ("1" * 5000, "digits"),
    ('{"a": 1, "b": {"c": 1, "c": 1}}', 'names "c" twice'),
    ('{"\\u0061": 1, "a": 2}', 'names "a" twice'),
    ('{"two\\nlines": 1, "two\\nlines": 2}', "twice"),
    (b'{"a": "\xff"}', "not UTF-8"),
    (b"\xff\xfe1\x00", "not UTF-8"),
    (b"\xef\xbb\xbf1", ""),
    ('"\\ud800"', "surrogate"),
    ('{"\\udc00": 1}', "surrogate"),
    ('"\ud800"', "surrogate"),
    ("{} {}", "Extra data"),
    ("1,", "Extra data"),
    ("", "Expecting value"),
    ('{"a": 1', ""),
    ("'a'", "Expecting value"),
    ("[1,]", ""),
    ("01", "Extra data"),
    ("[" * 200_000, "nested too deeply"),
    ('{"a":' * 200_000, "nested too deeply"),
    ('"\n"', "control character"),
)


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=lambda text: repr(text)[:24])
def test_what_is_no_json_is_refused_in_one_line(text, words):
    with pytest.raises(ValueError, match=words or None) as caught:
        strict_json.loads(text)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 200


# What JSON escapes, what it must not, and the ends of the ranges beside the surrogates.
CHARACTERS = 'ab"\\/ \x00\x1f\x7f\n\u00e9\u2028\ud7ff\ue000\uffff\U0001f600\U0010ffff'


def drawn(random: Random, depth: int) -> object:
    """A value of JSON, nested at most so deep."""
    text = "".join(random.choices(CHARACTERS, k=random.randrange(6)))
    number = random.choice((0.0, -0.0, 5e-324, 1.7976931348623157e308, random.gauss(0, 1e9)))
    plain = (None, True, False, random.randint(-(2**70), 2**70), number, text)
    if not depth or random.random() < 0.3:
        return random.choice(plain)
    inner = [drawn(random, depth - 1) for _ in range(random.randrange(5))]
    return random.choice((inner, {f"{text}{i}": each for i, each in enumerate(inner)}))


@pytest.mark.parametrize("is_ascii", [True, False])
def test_what_is_json_is_read_as_it_was(is_ascii):
    random = Random(0)
    for _ in range(300):
        value = drawn(random, 4)
        text = json.dumps(value, ensure_ascii=is_ascii, allow_nan=False)
        # As text, so that -0.0 is not 0.0 and True not 1.
        assert repr(strict_json.loads(text)) == repr(value)
        assert repr(strict_json.loads(text.encode())) == repr(value)


def test_a_pair_of_surrogates_is_one_character():
    assert strict_json.loads('"\\ud83d\\ude00"') == "\N{GRINNING FACE}"
