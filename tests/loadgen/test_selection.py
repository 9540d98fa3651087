"""A selection takes the same part of a trace wherever it is given, and is checked in one place."""

import numpy as np
import pytest

from loadgen.errors import InputError
from loadgen.scaling import with_rate_factor
from loadgen.selection import Selection, select, with_options
from loadgen.strict_config import parse
from loadgen.trace import Service, Trace, make_trace


def trace() -> Trace:
    """One request each second for 100 s; even seconds are conversation, every fifth is for GPT-4."""
    seconds = np.arange(100)
    return make_trace(
        "hundred",
        seconds.astype(float),
        seconds + 1,
        2 * seconds,
        duration_s=100.0,
        service=np.where(seconds % 2 == 0, Service.CONVERSATION, Service.API),
        model=np.where(seconds % 5 == 0, 1, 0),
        model_names=("ChatGPT", "GPT-4"),
    )


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_nothing_selected_is_the_whole_trace_and_draws_nothing() -> None:
    generator = rng()
    chosen = select(trace(), Selection(), generator)
    assert np.array_equal(chosen.arrival_s, trace().arrival_s)
    assert chosen.duration_s == 100.0
    assert generator.bit_generator.state == rng().bit_generator.state


def test_window_service_and_model_meet() -> None:
    chosen = select(trace(), Selection(start_s=20, limit_s=30, service="conversation", model_name="GPT-4"), rng())
    assert chosen.arrival_s.tolist() == [0.0, 10.0, 20.0]  # seconds 20, 30, 40
    assert chosen.duration_s == 30.0


def test_lengths_are_capped_and_time_is_sped_up_after_the_window_is_cut() -> None:
    chosen = select(
        trace(), Selection(start_s=50, limit_s=40, speed=4, max_prompt_tokens=60, max_output_tokens=110), rng()
    )
    assert chosen.duration_s == 10.0
    assert chosen.arrival_s[:3].tolist() == [0.0, 0.25, 0.5]
    assert (chosen.prompt_tokens[0], chosen.prompt_tokens.max()) == (51, 60)
    assert (chosen.output_tokens[0], chosen.output_tokens.max()) == (100, 110)


def test_a_rate_is_met_on_average_whatever_the_speed() -> None:
    whole = trace()
    for speed in (1.0, 4.0):
        chosen = select(whole, Selection(rate_per_s=2.5 * speed * len(whole) / whole.duration_s, speed=speed), rng())
        expected = with_rate_factor(whole, 2.5, rng()).sped_up(speed)
        assert chosen.arrival_s.tolist() == pytest.approx(expected.arrival_s.tolist())


def test_a_rate_and_a_factor_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        Selection(rate_per_s=2, rate_factor=2)
    with pytest.raises(InputError, match=r"^--rate and --rate-factor: give one of them$"):
        with_options(Selection(), {"rate_per_s": 2.0, "rate_factor": 2.0})
    with pytest.raises(InputError, match=r"^--rate: "):
        with_options(Selection(), {"rate_per_s": -1.0})
    assert with_options(Selection(rate_factor=3), {"rate_per_s": 2.0}) == Selection(rate_per_s=2.0)
    assert with_options(Selection(rate_per_s=3), {"rate_factor": 2.0}) == Selection(rate_factor=2.0)


def test_the_rate_factor_scales_the_selected_part_in_its_own_time() -> None:
    chosen = select(trace(), Selection(limit_s=50, service="api", rate_factor=3, speed=2), rng())
    expected = with_rate_factor(trace().window(0, 50).of_service(Service.API), 3, rng()).sped_up(2)
    assert len(chosen) == 75
    assert np.array_equal(chosen.arrival_s, expected.arrival_s)


def test_a_limit_past_the_end_means_to_the_end() -> None:
    assert select(trace(), Selection(start_s=90, limit_s=1000), rng()).duration_s == 10.0


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection(start_s=0.25, limit_s=0.5), "no request is left between 0.25 s and 0.75 s; widen"),
        (Selection(start_s=1, limit_s=1, service="conversation"), "and 2 s, service conversation;"),
        (Selection(start_s=1, limit_s=1, model_name="GPT-4"), "and 2 s, model 'GPT-4';"),
        (Selection(limit_s=1, rate_factor=1e-9), "rate_factor 1e-09"),
        (Selection(start_s=100), "in a recording of 100 s"),
        (Selection(model_name="GPT-5"), "has no model 'GPT-5'; it has ChatGPT, GPT-4"),
    ],
)
def test_a_selection_that_leaves_nothing_is_refused(selection: Selection, said: str) -> None:
    with pytest.raises(InputError) as refused:
        select(trace(), selection, rng())
    assert "trace 'hundred'" in str(refused.value)
    assert said in str(refused.value)


OUT_OF_RANGE = [
    ("start_s", -1.0),
    ("start_s", float("inf")),
    ("limit_s", 0.0),
    ("limit_s", float("nan")),
    ("service", "chat"),
    ("rate_factor", 0.0),
    ("rate_factor", float("inf")),
    ("speed", -2.0),
    ("speed", float("nan")),
    ("max_prompt_tokens", 0),
    ("max_output_tokens", -5),
]


@pytest.mark.parametrize(("key", "value"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_alike_in_a_file_and_as_an_option(key: str, value: object) -> None:
    with pytest.raises(InputError, match=f"x.yaml: '{key}': input should be"):
        parse(Selection, {key: value}, "x.yaml")
    with pytest.raises(InputError, match=f"--{key.replace('_', '-')}: input should be .*, got"):
        with_options(Selection(), {key: value})


def test_options_replace_what_the_file_says_and_options_not_given_leave_it() -> None:
    changed = with_options(Selection(speed=2, limit_s=5), {"speed": 3.0, "limit_s": None, "service": "api"})
    assert changed == Selection(speed=3, limit_s=5, service="api")
