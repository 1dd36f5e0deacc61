# SPDX-License-Identifier: Apache-2.0
"""What `import scaling` offers, and what a fit does in a notebook."""

import importlib
import sys
import types

import numpy as np
import pytest

import scaling
from scaling.answers.frontier import frontier
from scaling.answers.loss_forecast import predict_loss
from scaling.approaches.surface.fit import fit_surface


@pytest.fixture(scope="module")
def fit(planted_named):
    return fit_surface(planted_named("quickstart").runs(sd=0.01, seed=3), n_bootstrap=50)


def test_every_name_is_that_of_its_module():
    for name, module in scaling.SURFACE.items():
        assert getattr(scaling, name) is getattr(importlib.import_module(module), name)
        assert name in dir(scaling)
        assert f"{name}" in scaling.__all__
    with pytest.raises(AttributeError, match="module 'scaling' has no attribute 'fit_curve'"):
        _ = scaling.fit_curve


def test_a_fit_answers_as_the_functions_do(fit):
    found = fit.predict([1e5, 2e5], 1e7)
    expected = [predict_loss(fit, n, 1e7) for n in (1e5, 2e5)]
    for i, one in enumerate(expected):
        assert found.at(i) == one
    assert fit.predict(1e5, 1e7).at(0) == expected[0]
    budgets = [1e11, 1e12]
    np.testing.assert_array_equal(
        fit.optimum(budgets).n_params_opt.upper, frontier(fit, budgets).n_params_opt.upper
    )
    figure = fit.plot()
    assert figure.axes


def test_results_as_data_frames(fit, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=dict))
    found = fit.to_dataframe()
    assert found["name"] == ["E", "A", "B", "alpha", "beta", "exponent_a", "exponent_b"]
    row = found["name"].index("alpha")
    ends = (found["lower"][row], found["value"][row], found["upper"][row])
    interval = fit.intervals["alpha"]
    assert ends == (interval.lower, fit.parameters["alpha"], interval.upper)
    front = fit.optimum([1e11, 1e12])
    columns = front.to_dataframe()
    np.testing.assert_array_equal(columns["loss_opt_upper"], front.loss_opt.upper)
    assert set(map(len, columns.values())) == {2}
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        fit.to_dataframe()
