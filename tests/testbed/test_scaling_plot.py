"""The plot of the simulator's growth says what was measured."""

import json
from pathlib import Path

import pytest

from testbed.bench_simulator import Speed
from testbed.scaling_plot import growth_exponent, scaling_sentence, write_scaling_page

# Time in proportion to requests; with 16 times the replicas a request costs 1.5 times as much: exponent 0.146.
BY_REQUESTS = tuple(Speed(requests, 16, requests * 3e-6) for requests in (10_000, 100_000, 1_000_000))
BY_REPLICAS = tuple(Speed(1_000_000, 16**step, 3.0 * 1.5**step) for step in range(3))


def test_a_power_law_has_its_exponent() -> None:
    assert growth_exponent([1, 10, 100], [5.0, 50.0, 500.0]) == pytest.approx(1.0)
    assert growth_exponent([1, 10, 100], [7.0, 7.0, 7.0]) == pytest.approx(0.0)
    assert growth_exponent([2, 4, 8], [4.0, 16.0, 64.0]) == pytest.approx(2.0)


def test_the_sentence_says_both_growths_and_what_a_large_fleet_costs() -> None:
    sentence = scaling_sentence(BY_REQUESTS, BY_REPLICAS)
    assert "with requests to the power of 1.00 (10,000 to 1,000,000 requests)" in sentence
    assert "with replicas to the power of 1.15 (1 to 256 replicas at the same load of each)" in sentence
    assert "2.2 times as much on 256 replicas as on 1." in sentence


def test_the_page_opens_offline_and_its_figures_lie_beside_it(tmp_path: Path) -> None:
    page = tmp_path / "growth.html"
    write_scaling_page(BY_REQUESTS, BY_REPLICAS, page)
    text = page.read_text()
    assert scaling_sentence(BY_REQUESTS, BY_REPLICAS) in text
    assert '<script src="' not in text
    figures = json.loads((tmp_path / "growth.json").read_text())
    assert figures["by_requests"][0] == {"requests": 10_000, "replicas": 16, "seconds": 10_000 * 3e-6}
    assert [row["replicas"] for row in figures["by_replicas"]] == [1, 16, 256]
