"""The terminal's description fits a screen, leaves out what is not known, and ends in plain words."""

import io

import numpy as np
import pytest
from rich.console import Console

from loadgen.statistics.describe import describe
from loadgen.trace import Service, Trace, make_trace
from testbed.trace_table import description_table


def printed(trace: Trace) -> str:
    text = io.StringIO()
    Console(file=text, width=80).print(description_table(describe(trace)))
    return text.getvalue()


def mixed(models: int) -> Trace:
    """Twenty days of 20,000 requests, as many conversations as API calls."""
    rng = np.random.default_rng(0)
    count, duration_s = 20_000, 20 * 86_400.0
    return make_trace(
        "mixed",
        np.sort(rng.uniform(0, duration_s, count)),
        rng.integers(1, 30_000, count),
        np.where(rng.random(count) < 0.02, 0, rng.integers(1, 9000, count)),
        duration_s=duration_s,
        service=rng.integers(0, 2, count),
        model=rng.integers(0, models, count),
        model_names=tuple(f"model-{number}" for number in range(models)),
    )


def test_services_stand_side_by_side_on_one_screen_and_models_below() -> None:
    trace = mixed(models=2)
    text = printed(trace)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text, "nothing is cut off"
    lines = text.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert "conversation" in text
    assert "20,000" in text
    assert f"{trace.prompt_tokens.sum():,}" in text
    in_one = " ".join(text.split())
    assert f"model-0 {np.count_nonzero(trace.model == 0):,} (" in in_one
    assert "requests/s on average" in in_one, "the sentences follow"


def test_the_models_of_one_service_stand_side_by_side_while_there_is_room() -> None:
    trace = mixed(models=2).of_service(Service.API)
    assert "Requests by model" not in printed(trace)
    assert any(line.split() == ["all", "model-0", "model-1"] for line in printed(trace).splitlines())
    many = " ".join(printed(mixed(models=9)).split())
    assert "and 3 more" in many


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_is_not_known_of_a_tiny_trace_has_no_row(count: int) -> None:
    text = printed(make_trace("tiny", np.arange(count), np.ones(count, int), np.ones(count, int), duration_s=9.0))
    assert "correlation" not in text
    assert "busiest hour" not in text
    assert "None" not in text
    assert "nan" not in text
