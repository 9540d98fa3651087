"""The forecasters by name, and how one is made from a name and parameters that a person wrote."""

from collections.abc import Sequence
from dataclasses import Field, fields
from itertools import pairwise
from typing import Any

import numpy as np

from forecasting.interface import Forecaster
from forecasting.models.baselines import LastValue
from forecasting.models.seasonal import Seasonal
from forecasting.residuals import ResidualForecaster
from loadgen.errors import InputError

FORECASTERS: dict[str, type[ResidualForecaster]] = {"last-value": LastValue, "seasonal": Seasonal}

_GIVEN_BY_THE_CALLER = ("bin_s", "levels", "start_s")
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def make_forecaster(
    name: str, *, bin_s: float, levels: Sequence[float], start_s: float = 0.0, **params: Any
) -> Forecaster:
    """Make the forecaster of that name for one series of bins of `bin_s` that begins at `start_s`.

    Raises:
        InputError: the name or a parameter is unknown, or a value is of the wrong kind or out of range.
    """
    if name not in FORECASTERS:
        raise InputError(f"unknown forecaster '{name}'; known: {', '.join(FORECASTERS)}")
    if not (bin_s > 0 and np.isfinite(bin_s)):
        raise InputError(f"forecaster '{name}': bin_s must be a positive number of seconds, got {bin_s}")
    _check_levels(name, levels)
    known = forecaster_parameters(name)
    for parameter, value in params.items():
        if parameter not in known:
            listed = ", ".join(f"{known_name} (default {field.default})" for known_name, field in known.items())
            raise InputError(f"forecaster '{name}' has no parameter '{parameter}'; it takes: {listed}")
        _check_value(name, known[parameter], value)
    return FORECASTERS[name](bin_s=float(bin_s), levels=tuple(levels), start_s=float(start_s), **params)


def forecaster_parameters(name: str) -> dict[str, Field[Any]]:
    """The parameters that a known forecaster takes, with default, type and range (metadata at_least, at_most)."""
    return {field.name: field for field in fields(FORECASTERS[name]) if field.name not in _GIVEN_BY_THE_CALLER}


def _check_levels(name: str, levels: Sequence[float]) -> None:
    inside = all(0.0 < level < 1.0 for level in levels)
    increasing = all(low < high for low, high in pairwise(levels))
    if not (len(levels) > 0 and inside and increasing):
        raise InputError(f"forecaster '{name}': levels must increase within (0, 1), got {list(levels)}")


def _check_value(name: str, field: Field[Any], value: Any) -> None:
    """Refuse a value of the wrong kind or out of the field's range."""
    kind = field.type if isinstance(field.type, type) else type(field.default)
    takes = (int, float) if kind is float else (kind,)
    low, high = field.metadata.get("at_least"), field.metadata.get("at_most")
    fits = isinstance(value, takes) and (kind is bool or not isinstance(value, bool))
    if fits and low is not None:
        fits = low <= value <= high
    if not fits:
        limits = "" if low is None else f" in [{low:g}, {high:g}]"
        raise InputError(f"forecaster '{name}': {field.name} must be {_KINDS[kind]}{limits}, got {value!r}")
