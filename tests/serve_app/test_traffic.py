"""The traffic log: complete bins only, nothing counted twice or lost, cursors, bounded memory."""

import math
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decision_record import DecisionRecord
from autoscaler.interface import QueueSnapshot
from loadgen.records import Phase
from serve_app.traffic import ArrivalCounter, BoundedLog, CutOff, EngineSample, IngressReport, TrafficLog

SERVICES = ("conversation", "api")
INGRESS = 50.0  # when the ingress started: its name


def log(now_s: float = 100.0, *, bin_s: float = 1.0, kept_bins: int = 50, kept_lines: int = 10) -> TrafficLog:
    """A log whose ingress starts at `now_s`."""
    made = TrafficLog(SERVICES, bin_s, kept_bins, kept_lines)
    made.start(now_s, INGRESS)
    return made


def report(sequence: int, as_of_s: float, *arrivals: tuple[str, int, int]) -> IngressReport:
    """A report with an empty queue."""
    return IngressReport(INGRESS, sequence, as_of_s, arrivals, {service: QueueSnapshot() for service in SERVICES})


def sample(replica_id: str, time_s: float, tokens: int = 0) -> EngineSample:
    """A sample of one second."""
    return EngineSample(replica_id, time_s, 1.0, running=1, waiting=0, kv_cache_fraction=0.1, output_tokens=tokens)


def decision(time_s: float) -> DecisionRecord:
    """A decision for one replica."""
    return DecisionRecord(time_s, 1, 1, "", 0, 1, 0, 0, 0, 0, 0.0, None)


def test_only_bins_that_were_counted_from_start_to_end_are_in_the_history() -> None:
    """The ingress starts at 100.4: bin 100 is partial; at 103.2 bin 103 is still under way."""
    traffic = log(100.4)
    traffic.add_report(report(1, 103.2, ("api", 100, 5), ("api", 101, 2), ("api", 103, 7)))
    history = traffic.arrivals()["api"]
    assert (history.start_s, history.bin_s, history.requests.tolist()) == (101.0, 1.0, [2.0, 0.0])
    assert traffic.arrivals()["conversation"].requests.tolist() == [0.0, 0.0]


def test_a_report_that_is_sent_again_counts_once() -> None:
    """The ingress cannot know whether a report that timed out has arrived."""
    traffic = log()
    for _ in range(2):
        traffic.add_report(report(1, 102.0, ("api", 100, 3)))
    assert traffic.arrivals()["api"].requests.tolist() == [3.0, 0.0]


def test_while_an_application_is_redeployed_only_the_new_ingress_counts() -> None:
    """The old one still drains and reports, with higher numbers."""
    traffic = log()
    traffic.add_report(report(500, 105.0, ("api", 101, 3)))
    traffic.start(110.0, INGRESS + 1)
    traffic.add_report(report(501, 112.0, ("api", 110, 9)))
    traffic.add_report(replace(report(1, 112.0, ("api", 110, 4)), ingress_started_s=INGRESS + 1))
    assert traffic.arrivals()["api"].requests.tolist() == [4.0, 0.0]


def test_after_a_lost_ingress_the_history_starts_anew() -> None:
    """What came in meanwhile is unknown; zeros would tell a forecaster that the traffic had stopped."""
    traffic = log()
    traffic.add_report(report(7, 105.0, ("api", 101, 3)))
    traffic.start(130.5, INGRESS)
    assert traffic.arrivals() == {}
    traffic.add_report(report(1, 133.0, ("api", 131, 4)))
    assert traffic.arrivals()["api"].start_s == 131.0
    assert traffic.arrivals()["api"].requests.tolist() == [4.0, 0.0]


def test_a_reader_goes_on_where_it_stopped() -> None:
    """From the first bin that it has not seen."""
    traffic = log()
    traffic.add_report(report(1, 104.0, ("api", 102, 1), ("api", 103, 2)))
    history = traffic.arrivals(103.0)["api"]
    assert (history.start_s, history.requests.tolist()) == (103.0, [2.0])
    assert len(traffic.arrivals(104.0)["api"].requests) == 0


def test_old_bins_are_dropped() -> None:
    """Only as many as are kept."""
    traffic = log(kept_bins=3)
    traffic.add_report(report(1, 110.0, *(("api", index, index) for index in range(100, 110))))
    assert traffic.arrivals()["api"].requests.tolist() == [107.0, 108.0, 109.0]


def test_a_view_has_the_recent_bins_and_samples_only() -> None:
    """A replica that has not reported for longer than the given age is not in it."""
    traffic = log()
    traffic.add_report(report(1, 110.0))
    traffic.add_sample(sample("gone", 105.0))
    traffic.add_sample(sample("there", 108.0))
    traffic.add_sample(sample("there", 109.0, tokens=4))
    view = traffic.view(110.0, history_bins=4, sample_age_s=3.0)
    assert (view.as_of_s, view.arrivals["api"].start_s, len(view.arrivals["api"].requests)) == (110.0, 106.0, 4)
    assert {name: each.output_tokens for name, each in view.samples.items()} == {"there": 4}
    assert view.forecast is None


def test_collecting_gives_each_line_once_and_says_what_was_lost() -> None:
    """With room for ten samples, twelve between two visits lose two."""
    traffic = log()
    traffic.add_decision(decision(1.0))
    first = traffic.collect()
    assert (len(first.decisions), len(first.samples), first.lost_lines) == (1, 0, 0)
    traffic.add_decision(decision(2.0))
    for time_s in range(12):
        traffic.add_sample(sample("a", float(time_s)))
    second = traffic.collect(first.cursor)
    assert [line.time_s for line in second.decisions] == [2.0]
    assert [line.time_s for line in second.samples] == [float(time_s) for time_s in range(2, 12)]
    assert second.lost_lines == 2
    assert traffic.collect(second.cursor).samples == ()


def test_a_cursor_of_a_log_that_was_lost_reads_the_new_one_from_its_start() -> None:
    """The monitor was replaced between two visits."""
    traffic = log()
    traffic.add_decision(decision(1.0))
    collected = traffic.collect((500, 500))
    assert (len(collected.decisions), collected.cursor, collected.lost_lines) == (1, (1, 0), 0)


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 10))
def test_a_log_gives_every_line_to_a_reader_that_comes_often_enough(bursts: list[int], capacity: int) -> None:
    """Lines that were read and lines that were lost add up to all lines, in order."""
    lines: BoundedLog[int] = BoundedLog(capacity)
    cursor, seen, lost, written = 0, [], 0, 0
    for burst in bursts:
        for _ in range(burst):
            lines.append(written)
            written += 1
        new, cursor, dropped = lines.since(cursor)
        seen += new
        lost += dropped
    assert len(seen) + lost == written
    assert seen == sorted(set(seen))
    if max(bursts, default=0) <= capacity:
        assert lost == 0


@given(
    st.lists(st.tuples(st.sampled_from(SERVICES), st.floats(100, 120)), max_size=60),
    st.sampled_from([0.25, 0.5, 1.0, 5.0]),
    st.integers(1, 8),
)
def test_arrivals_are_conserved_from_the_counter_to_the_history(
    arrivals: list[tuple[str, float]], bin_s: float, reports: int
) -> None:
    """However they are cut into reports, each arrival is in exactly the bin of its instant."""
    counter, traffic = ArrivalCounter(bin_s), log(100.0, bin_s=bin_s, kept_bins=1000)
    ordered = sorted(arrivals, key=lambda arrival: arrival[1])
    cuts = np.linspace(100, 125, reports + 1)[1:]
    for sequence, cut_s in enumerate(cuts, start=1):
        while ordered and ordered[0][1] < cut_s:
            counter.count(*ordered.pop(0))
        traffic.add_report(IngressReport(INGRESS, sequence, float(cut_s), counter.take(), {}))
    histories = traffic.arrivals()
    for service in SERVICES:
        history = histories[service]
        for index, requests in enumerate(history.requests):
            start_s = history.start_s + index * bin_s
            expected = sum(
                name == service and math.floor(time_s / bin_s) == math.floor(start_s / bin_s)
                for name, time_s in arrivals
            )
            assert requests == expected
        assert history.requests.sum() == sum(name == service for name, _ in arrivals)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=60), st.integers(1, 5))
def test_pages_of_any_size_hold_what_the_whole_log_holds(lines: list[tuple[bool, int]], most_lines: int) -> None:
    """In order and once; a page is full only of what one sample tells at the most."""
    traffic = log(kept_lines=100)
    for number, (is_decision, requests) in enumerate(lines):
        if is_decision:
            traffic.add_decision(decision(float(number)))
        else:
            told = tuple(CutOff(f"{number}-{request}", Phase.DECODE) for request in range(requests))
            traffic.add_sample(replace(sample("a", float(number)), cut_off=told))
    whole = traffic.collect()
    decisions, samples, cursor, has_more = [], [], (0, 0), True
    while has_more:
        page = traffic.collect(cursor, most_lines)
        assert len(page.decisions) <= most_lines
        assert len(page.samples) <= 1 or sum(1 + len(each.cut_off) for each in page.samples) <= most_lines
        decisions += page.decisions
        samples += page.samples
        cursor, has_more = page.cursor, page.has_more
    assert (tuple(decisions), tuple(samples), cursor) == (whole.decisions, whole.samples, whole.cursor)
    assert not whole.has_more


def test_a_reader_that_comes_late_can_begin_with_the_last_decision() -> None:
    """The samples of before are left out."""
    traffic = log()
    assert traffic.collect(traffic.latest_cursor()) == traffic.collect()
    for time_s in (1.0, 2.0):
        traffic.add_decision(decision(time_s))
        traffic.add_sample(sample("a", time_s))
    cursor = traffic.latest_cursor()
    traffic.add_sample(sample("a", 3.0))
    found = traffic.collect(cursor)
    assert ([each.time_s for each in found.decisions], [each.time_s for each in found.samples]) == ([2.0], [3.0])
