"""The end of every run, simulated or live: its figures and its report."""

from collections.abc import Sequence
from pathlib import Path

from testbed.models_summary import summarise_results
from testbed.report.page import write_report
from testbed.results import REPORT, Results, read_results, write_summary


def conclude_run(folder: Path, *, cut_short: str | None = None, problems: Sequence[str] = ()) -> Results:
    """Compute the figures of the run in `folder`, write summary.json and report.html, and return all of it.

    Args:
        cut_short: why the run ended before its plan did; None = it did not.
        problems: what went wrong with the measurement itself, one sentence each.
    """
    write_summary(folder, summarise_results(read_results(folder), cut_short=cut_short, problems=problems))
    results = read_results(folder)
    write_report(results, folder / REPORT)
    return results
