"""The model of BurstGPT that ships: what is published of BurstGPT_1 is what it gives."""

import csv
from pathlib import Path

import numpy as np
import pytest

from loadgen.arrivals.process import expected_arrivals
from loadgen.fit_burstgpt import fit_visits, fit_week, week_dispersion
from loadgen.lengths import length_probabilities, mean_length
from loadgen.rate_series import read_rate_series
from loadgen.shipped_workloads import find_workload
from loadgen.trace import Service
from loadgen.workload import draw_trace, expected_requests, read_workload_model

DAY_S = 86400.0
BURSTGPT = Path(__file__).parents[2].parent / "shared" / "data" / "traces" / "burstgpt"


@pytest.fixture(scope="module")
def model():
    return read_workload_model(find_workload("model_of_burstgpt"))


@pytest.fixture(scope="module")
def trace(model):
    return draw_trace(model, np.random.default_rng(0))


def length_at(lengths, level):
    tokens, probability = length_probabilities(lengths)
    return int(tokens[np.searchsorted(np.cumsum(probability), level)])


def test_it_is_called_a_model(model):
    assert model.name == "model of BurstGPT"


def test_61_days_have_the_published_number_of_requests_in_the_mean(model):
    assert model.duration_s == 61 * DAY_S
    assert expected_requests(model) == pytest.approx(1_429_737, rel=0.01)
    people, *api = model.streams
    assert expected_requests(model.model_copy(update={"streams": (people,)})) == pytest.approx(154_219, rel=0.01)
    assert expected_requests(model.model_copy(update={"streams": tuple(api)})) == pytest.approx(1_275_518, rel=0.01)


def test_the_two_parts_of_the_recording_have_their_own_share(model):
    # 780,239 API requests in the hours of days 0-39, and so 495,279 in the 21 days after.
    after = sum(expected_arrivals(s.arrivals, max(s.start_s, 40 * DAY_S), 61 * DAY_S) for s in model.streams[1:])
    assert after == pytest.approx(495_279, rel=0.01)


def test_the_first_days_have_almost_no_api_traffic(model):
    drawn = draw_trace(model, np.random.default_rng(1)).window(0.0, 7 * DAY_S)
    assert np.mean(drawn.service == Service.API) < 0.2  # 2 % in the recording, whose like is drawn in the mean


def test_failures_and_models_have_their_published_shares(trace):
    # 8,512 of 154,219 conversation and 16,931 of 1,275,518 API requests failed; 219,628 of 1,429,737 were for GPT-4.
    for service, failed in ((Service.CONVERSATION, 8_512 / 154_219), (Service.API, 16_931 / 1_275_518)):
        assert np.mean(trace.of_service(service).output_tokens == 0) == pytest.approx(failed, rel=0.05)
    for service, gpt_4 in ((Service.CONVERSATION, 48 / 145), (Service.API, 167 / 1257)):
        asked = trace.of_service(service)
        assert np.mean(asked.model == asked.model_names.index("GPT-4")) == pytest.approx(gpt_4, rel=0.05)


@pytest.mark.parametrize(
    ("stream", "part", "median", "percentile_99"),
    [
        # Published per service and model, here between the values of ChatGPT and of GPT-4.
        (0, "prompt_tokens", (533, 576), (2481, 3504)),
        (0, "output_tokens", (229, 250), (900, 954)),
        (1, "prompt_tokens", (221, 466), (2813, 3403)),
        (1, "output_tokens", (26, 40), (1350, 1628)),
    ],
)
def test_lengths_have_the_published_medians_and_tails(model, stream, part, median, percentile_99):
    lengths = getattr(model.streams[stream], part)
    assert median[0] <= length_at(lengths, 0.5) <= median[1]
    assert percentile_99[0] <= length_at(lengths, 0.99) <= percentile_99[1]


def test_lengths_have_the_published_means(model):
    people, api = model.streams[:2]
    # 877 tokens a request over days 0-4, of which 5.52 % have none.
    assert mean_length(people.prompt_tokens) + mean_length(people.output_tokens) == pytest.approx(
        877 / 0.9448, rel=0.02
    )
    # 1,039,937,954 tokens in all successful requests, each different row once; conversation takes 145,707 x 928.
    api_mean = (1_039_937_954 - 145_707 * 928) / (1_363_384 - 145_707)
    assert mean_length(api.prompt_tokens) + mean_length(api.output_tokens) == pytest.approx(api_mean, rel=0.05)


def test_answers_in_conversations_have_two_humps(model):
    tokens, probability = length_probabilities(model.streams[0].output_tokens)
    between = np.argmin(probability[20:200]) + 20
    assert probability[between] < 0.7 * probability[:between].max()
    assert probability[between] < 0.7 * probability[between:].max()
    assert tokens[between] < 150


def test_same_seed_same_trace(model, trace):
    again = draw_trace(model, np.random.default_rng(0))
    for column in ("arrival_s", "prompt_tokens", "output_tokens", "service", "model", "session"):
        assert np.array_equal(getattr(again, column), getattr(trace, column))


def test_it_goes_on_after_61_days(model):
    longer = model.model_copy(update={"duration_s": 90 * DAY_S})
    per_day = (expected_requests(longer) - expected_requests(model)) / 29
    assert per_day == pytest.approx((495_279 + 44_538) / 21, rel=0.05)  # as in the last 21 days


def test_as_many_minutes_without_a_token_as_in_the_real_first_days(model):
    path = BURSTGPT / "burstgpt1_tokens_per_minute_days0-4.csv"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    with path.open(encoding="utf-8") as file:
        real = np.array([float(row["tokens_approx"]) for row in csv.DictReader(file)])
    five_days = model.model_copy(update={"duration_s": 5 * DAY_S, "streams": model.streams[:2]})
    silent, tokens = [], []
    for seed in range(20):
        trace = draw_trace(five_days, np.random.default_rng(seed))
        of_request = np.where(trace.output_tokens > 0, trace.prompt_tokens + trace.output_tokens, 0)
        minutes = np.bincount((trace.arrival_s // 60).astype(np.int64), of_request, minlength=len(real))
        silent.append(np.mean(minutes == 0))
        tokens.append(minutes.sum())
    for drawn, wanted in ((silent, np.mean(real == 0)), (tokens, real.sum())):
        low, high = np.percentile(drawn, [5, 95])
        assert low <= wanted <= high


def test_people_are_those_that_a_fit_to_the_real_hours_finds(model):
    path = BURSTGPT / "burstgpt1_hourly_days00-39.csv"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    requests = read_rate_series(path).of("conversation")
    sessions = fit_visits(*week_dispersion(requests, fit_week(requests)))
    shipped = model.streams[0].sessions
    assert shipped.turns.mean == pytest.approx(sessions.turns.mean, rel=0.02)
    assert shipped.think_s.median == pytest.approx(sessions.think_s.median, rel=0.05)
