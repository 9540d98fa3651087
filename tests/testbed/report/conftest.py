"""Five days of traffic and what is said of them, once for all tests here."""

import pytest

from loadgen.statistics.describe import describe
from loadgen.statistics.description import TraceDescription
from loadgen.trace import Trace
from tests.testbed.report.described_traces import days_of_traffic


@pytest.fixture(scope="session")
def trace() -> Trace:
    return days_of_traffic()


@pytest.fixture(scope="session")
def description(trace: Trace) -> TraceDescription:
    return describe(trace)
