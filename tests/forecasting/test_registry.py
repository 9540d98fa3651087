"""Forecasters by name: what is wrong is told with what would be right."""

import pytest

from forecasting.models.baselines import LastValue
from forecasting.models.seasonal import Seasonal
from forecasting.registry import FORECASTERS, forecaster_parameters, make_forecaster
from loadgen.errors import InputError


def made(name, **params):
    return make_forecaster(name, bin_s=5.0, levels=(0.5, 0.9), **params)


def test_a_forecaster_is_made_with_its_parameters_as_public_fields():
    forecaster = make_forecaster("seasonal", bin_s=60, levels=[0.5, 0.9], start_s=30, season_bins=24, season_weight=1)
    assert isinstance(forecaster, Seasonal)
    assert (forecaster.bin_s, forecaster.levels, forecaster.start_s) == (60.0, (0.5, 0.9), 30.0)
    assert (forecaster.season_bins, forecaster.season_weight) == (24, 1)
    assert isinstance(made("last-value"), LastValue)


@pytest.mark.parametrize("name", FORECASTERS)
def test_every_default_is_within_its_own_range(name):
    defaults = {parameter: field.default for parameter, field in forecaster_parameters(name).items()}
    assert made(name, **defaults).forecast(3).values.shape == (2, 3)


def test_an_unknown_forecaster_lists_the_known():
    with pytest.raises(InputError, match=r"^unknown forecaster 'oracle'; known: last-value, seasonal$"):
        made("oracle")


def test_an_unknown_parameter_lists_those_there_are_with_their_defaults():
    message = (
        r"^forecaster 'last-value' has no parameter 'window'; it takes: "
        r"residual_bins \(default 500\), horizon_bins \(default 120\), window_bins \(default 6\)$"
    )
    with pytest.raises(InputError, match=message):
        made("last-value", window=3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"window_bins": 0}, r"window_bins must be a whole number in \[1, 100000\], got 0"),
        ({"window_bins": 2.5}, r"window_bins must be a whole number in \[1, 100000\], got 2.5"),
        ({"window_bins": True}, r"window_bins must be a whole number in \[1, 100000\], got True"),
        ({"window_bins": "six"}, r"window_bins must be a whole number in \[1, 100000\], got 'six'"),
        ({"season_weight": 0.0}, r"season_weight must be a number in \[0.01, 1\], got 0.0"),
        ({"season_weight": float("nan")}, r"season_weight must be a number in \[0.01, 1\], got nan"),
        ({"scale_by_level": "yes"}, r"scale_by_level must be true or false, got 'yes'"),
        ({"residual_bins": 9}, r"residual_bins must be a whole number in \[10, 100000\], got 9"),
    ],
    ids=["too small", "a fraction", "a truth value", "a word", "out of range", "not a number", "no truth value", "few"],
)
def test_a_bad_value_is_told_with_the_range(params, message):
    with pytest.raises(InputError, match=message):
        made("seasonal", **params)


@pytest.mark.parametrize("levels", [(), (0.9, 0.5), (0.5, 0.5), (0.0, 0.5), (0.5, 1.0), (float("nan"),)])
def test_levels_must_increase_within_0_and_1(levels):
    with pytest.raises(InputError, match=r"levels must increase within \(0, 1\)"):
        make_forecaster("last-value", bin_s=5.0, levels=levels)


@pytest.mark.parametrize("bin_s", [0.0, -5.0, float("inf"), float("nan")])
def test_a_bin_must_have_a_length(bin_s):
    with pytest.raises(InputError, match="forecaster 'last-value': bin_s must be a positive number of seconds"):
        make_forecaster("last-value", bin_s=bin_s, levels=(0.5,))
