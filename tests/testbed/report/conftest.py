"""Five days of traffic and what is said of them, and the report of one run, once for all tests here."""

from typing import Any

import pytest

from loadgen.statistics.describe import describe
from loadgen.statistics.description import TraceDescription
from loadgen.trace import Trace
from testbed.conclude import conclude_run
from testbed.results import Results
from tests.testbed.report.described_traces import days_of_traffic


@pytest.fixture(scope="session")
def trace() -> Trace:
    return days_of_traffic()


@pytest.fixture(scope="session")
def description(trace: Trace) -> TraceDescription:
    return describe(trace)


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, story: Any, write_run: Any) -> Results:
    """The story's run, concluded."""
    return conclude_run(write_run(tmp_path_factory.mktemp("story") / "run", story))
