"""The workload models that are shipped give the traffic that they promise."""

from pathlib import Path

import numpy as np
import pytest

from loadgen.arrivals.gamma import GammaArrivals
from loadgen.errors import InputError
from loadgen.shipped_workloads import find_workload, shipped_workloads, workload_summary
from loadgen.trace import Service
from loadgen.workload import expected_requests, read_workload_model
from tests.loadgen.small_workloads import draw, rates_per_s

WORKLOADS = Path(__file__).parents[2] / "configs" / "workloads"


@pytest.mark.parametrize("path", sorted(WORKLOADS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_workload_that_is_shipped_can_be_drawn(path: Path) -> None:
    workload = read_workload_model(path)
    trace = draw(workload)
    assert len(trace) == pytest.approx(expected_requests(workload), rel=0.5)
    assert trace.duration_s == workload.duration_s


def test_the_demo_bursts_to_four_times_its_load_and_calms_down_again() -> None:
    workload = read_workload_model(WORKLOADS / "burst_demo.yaml")
    traces = [draw(workload, seed) for seed in range(20)]
    chats = [trace.of_service(Service.CONVERSATION) for trace in traces]
    before, burst, after = np.mean([rates_per_s(chat, 0, 25, 50, 90) for chat in chats], axis=0)
    assert before == pytest.approx(2, rel=0.2)
    assert burst == pytest.approx(8.5, rel=0.2)
    assert after == pytest.approx(1, rel=0.2)
    assert np.mean([chat.prompt_tokens.mean() for chat in chats]) == pytest.approx(300, rel=0.1)
    assert np.mean([chat.output_tokens.mean() for chat in chats]) == pytest.approx(100, rel=0.1)
    assert max(chat.output_tokens.max() for chat in chats) <= 400
    jobs = [trace.of_service(Service.API) for trace in traces]
    assert np.mean([len(job) for job in jobs]) == pytest.approx(30, rel=0.1)
    assert all(np.ptp(job.arrival_s) < 15 for job in jobs)


PAPER = sorted(path for name, path in shipped_workloads().items() if name.startswith("burstgpt_paper_"))


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_papers_settings_start_calm_and_burst_five_times(path: Path) -> None:
    workload = read_workload_model(path)
    arrivals = workload.streams[0].arrivals
    assert isinstance(arrivals, GammaArrivals)
    first = arrivals.bursts[0].after_requests
    traces = [draw(workload, seed) for seed in range(40)]
    # A Gamma gap has the mean alpha beta and the variance alpha beta^2.
    alpha, beta_s = {"7b_a6000": (0.25, 2), "7b_a800": (0.25, 1), "13b_a6000": (1, 5), "13b_a800": (0.5, 2)}[
        path.stem.removeprefix("burstgpt_paper_")
    ]
    assert first * alpha * beta_s == 1000, "1000 s to warm up"
    warm_s = np.mean([trace.arrival_s[first - 1] for trace in traces])
    assert warm_s == pytest.approx(1000, abs=4 * np.sqrt(1000 * beta_s / 40))
    for number, peak_cv in enumerate((64, 32, 16, 8, 4)):
        peak = first + 1000 * number + 200
        lasts_s = np.mean([trace.arrival_s[peak + 99] - trace.arrival_s[peak - 101] for trace in traces])
        # 200 gaps of alpha = 1/CV^2, whose CV goes in a line from halfway to the peak and back.
        due_s = 200 * beta_s / (peak_cv * (alpha**-0.5 + peak_cv) / 2)
        assert lasts_s == pytest.approx(due_s, rel=0.02, abs=4 * np.sqrt(due_s * beta_s / 40))
    prompts = np.concatenate([trace.prompt_tokens for trace in traces])
    assert prompts.max() <= 1023
    assert np.mean(prompts == 1) == pytest.approx(1 / sum(np.arange(1, 1024) ** -1.1), rel=0.02)


def test_a_shipped_model_is_found_by_its_name_and_any_other_by_its_path() -> None:
    assert find_workload("burst_demo") == WORKLOADS / "burst_demo.yaml"
    assert find_workload("mine.yaml") == Path("mine.yaml")
    assert find_workload("folder/mine") == Path("folder/mine")
    with pytest.raises(InputError, match=r"unknown workload 'burst'; known: burst_demo, .*or give a path"):
        find_workload("burst")
    assert workload_summary(WORKLOADS / "burst_demo.yaml").startswith("Ninety seconds with one burst")
