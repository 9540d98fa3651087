"""Numbers as a person reads them: shares, latencies, quantities."""

import math

# Shown where there is no number.
NOTHING = "\N{EN DASH}"


def percent(fraction: float | None) -> str:
    """A share for a person, rounded down, so that only what is whole reads '100 %': '98.7 %', '99.98 %'."""
    if fraction is None:
        return NOTHING
    digits = 1 if fraction < 0.999 else 2
    shown = math.floor(fraction * 100 * 10**digits + 1e-9) / 10**digits
    return f"{shown:g} %"


def failure_percent(fraction: float | None) -> str:
    """A share of failures, rounded up, so that only none at all reads '0 %'."""
    if fraction is None:
        return NOTHING
    digits = 1 if fraction >= 0.001 else 3
    return f"{math.ceil(fraction * 100 * 10**digits - 1e-9) / 10**digits:g} %"


def latency(value_s: float | None) -> str:
    """A latency with its unit: '43 ms', '1.25 s', '62 s'."""
    if value_s is None:
        return NOTHING
    return f"{value_s * 1000:.3g} ms" if value_s < 0.9995 else f"{value_s:.3g} s"


def quantity(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits and thousands set apart: '0.31', '1,240'."""
    if value is None:
        return NOTHING
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
