"""The end of a run in the terminal says what the page says."""

import dataclasses

from testbed.report.facts import gather_facts
from testbed.report.verdict import write_verdict
from testbed.results import Results
from tests.testbed.report.reported_runs import as_text


def test_the_terminal_shows_the_verdict_the_services_and_the_fleet(results: Results) -> None:
    text = as_text(results)
    assert write_verdict(gather_facts(results)) in text
    assert "deadline in queue" in text
    assert "2 (1 up, 1 down, 0 taken back)" in text


def test_markup_in_a_name_is_text_in_the_terminal(results: Results) -> None:
    assert "[red]x[/red]" in as_text(dataclasses.replace(results, config=results.config | {"name": "[red]x[/red]"}))
