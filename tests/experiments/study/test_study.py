# SPDX-License-Identifier: Apache-2.0
import dataclasses
import math

import pytest

from experiments.study.study import Study

BAD_STUDIES = (
    ({"name": "a/b"}, "name='a/b'"),
    ({"name": ""}, "name=''"),
    ({"budgets": ()}, "budgets"),
    ({"budgets": (2e11, 1e11)}, "ascending"),
    ({"budgets": (1e11, 1e11)}, "each once"),
    ({"budgets": (-1.0, 1e11)}, "positive"),
    ({"budgets": (1e11, math.inf)}, "finite"),
    ({"budgets": (math.nan,)}, "finite"),
    ({"flops": "6nd"}, "flops='6nd'"),
    ({"seeds": ()}, "seeds"),
    ({"seeds": (0, 0)}, "distinct"),
    ({"seeds": (-1,)}, ">= 0"),
    ({"seeds": ((0,),)}, "each of the 2 budgets"),
    ({"budgets": (1e11,), "seeds": ((0,), (1,))}, "one list for the one budget."),
    ({"seeds": (0, (1,))}, "seeds"),
    ({"seeds": ((0,), 1)}, "seeds"),
    ({"forecast_budgets": (2e11,)}, "above the largest budget"),
    ({"forecast_budgets": (math.nan,)}, "forecast_budgets"),
    ({"forecast_budgets": (math.inf,)}, "forecast_budgets"),
    ({"max_epochs": 0.0}, "max_epochs"),
    ({"max_epochs": math.nan}, "max_epochs"),
    ({"seq_len": 0}, "seq_len"),
    ({"mesh": (1, 0, 1, 1)}, "mesh"),
    ({"keep": "all"}, "keep='all'"),
)


@pytest.mark.parametrize(("changes", "words"), BAD_STUDIES, ids=lambda x: str(x))
def test_a_study_that_makes_no_sense_is_refused_in_one_line(study, changes, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the words are checked below)
        dataclasses.replace(study, **changes)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_study_files_say_what_they_ask():
    from experiments.studies.quickstart import STUDY

    assert isinstance(STUDY, Study)
    assert STUDY.budgets[-1] / STUDY.budgets[0] >= 30
