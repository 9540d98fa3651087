"""Metrics pages, made by the official client library and served over HTTP, become rows of the engine table."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import make_wsgi_app

from loadgen.errors import InputError
from testbed.server_metrics import MetricsScraper, find_metrics_pages, read_engine_gauges


class QuietHandler(WSGIRequestHandler):
    """Writes no line for each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class VllmPage:
    """The metrics of two engines as vLLM names them."""

    def __init__(self, prefix: str = "vllm:", label: str = "engine") -> None:
        self.registry = CollectorRegistry()
        labels = ["model_name", label]
        self.running = Gauge(f"{prefix}num_requests_running", "x", labels, registry=self.registry)
        self.waiting = Gauge(f"{prefix}num_requests_waiting", "x", labels, registry=self.registry)
        self.kv = Gauge(f"{prefix}kv_cache_usage_perc", "x", labels, registry=self.registry)
        self.tokens = Counter(f"{prefix}generation_tokens", "x", labels, registry=self.registry)

    def set(self, engine: str, running: int, waiting: int, kv: float, tokens: int) -> None:
        """The engine's state; its tokens are added to those before."""
        self.running.labels("llama", engine).set(running)
        self.waiting.labels("llama", engine).set(waiting)
        self.kv.labels("llama", engine).set(kv)
        self.tokens.labels("llama", engine).inc(tokens)

    def text(self) -> str:
        """The page."""
        return generate_latest(self.registry).decode()


@pytest.fixture
def page() -> VllmPage:
    """A page on which one engine is busy and one idle."""
    page = VllmPage()
    page.set("0", running=3, waiting=2, kv=0.25, tokens=100)
    page.set("1", running=0, waiting=0, kv=0.0, tokens=0)
    return page


@pytest.fixture
def url(page: VllmPage) -> Iterator[str]:
    """The page on a port of its own."""
    server = make_server("127.0.0.1", 0, make_wsgi_app(page.registry), handler_class=QuietHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("prefix", "label", "names"),
    [
        ("vllm:", "engine", ["engine-0", "engine-1"]),
        ("ray_vllm:", "ReplicaId", ["0", "1"]),
        ("ray_vllm_", "ReplicaId", ["0", "1"]),
    ],
)
def test_vllms_metrics_are_found_under_each_of_their_names(prefix: str, label: str, names: list[str]) -> None:
    page = VllmPage(prefix, label)
    page.set("0", running=3, waiting=2, kv=0.25, tokens=100)
    page.set("1", running=1, waiting=0, kv=0.5, tokens=7)
    found = read_engine_gauges(page.text())
    assert sorted(found) == names
    busy = found[names[0]]
    assert (busy.running, busy.waiting, busy.kv_cache_fraction, busy.output_tokens_total) == (3, 2, 0.25, 100)


def test_where_only_ray_serve_speaks_its_replicas_requests_are_read() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("ray_serve_replica_processing_queries", "x", ["deployment", "replica"], registry=registry)
    gauge.labels("app", "abc").set(4)
    found = read_engine_gauges(generate_latest(registry).decode())
    assert {name: gauges.running for name, gauges in found.items()} == {"abc": 4}


def test_rows_hold_what_was_made_since_the_row_before(page: VllmPage, url: str, tmp_path: Path) -> None:
    with MetricsScraper(tmp_path, [url], interval_s=0.05) as scraper:
        wait_for_rows(scraper, 2)
        page.set("0", running=5, waiting=0, kv=0.75, tokens=40)
        wait_for_rows(scraper, scraper.table().num_rows + 4)
    table = scraper.table().to_pandas()
    busy, idle = (table[table["replica_id"] == name] for name in ("engine-0", "engine-1"))
    assert len(busy) == len(idle) > 2
    assert busy["output_tokens"].sum() == 40, "the first row knows of nothing before it"
    assert (busy["running"].iloc[0], busy["running"].iloc[-1]) == (3, 5)
    assert busy["kv_cache_fraction"].iloc[-1] == 0.75
    assert idle["output_tokens"].sum() == 0
    assert busy["time_s"].is_monotonic_increasing
    assert busy["interval_s"].iloc[1:].to_list() == pytest.approx(busy["time_s"].diff().iloc[1:].to_list())


def test_rows_before_the_run_began_are_left_out(url: str, tmp_path: Path) -> None:
    with MetricsScraper(tmp_path, [url], interval_s=0.02) as scraper:
        wait_for_rows(scraper, 4)
        scraper.start(time.time())
        assert scraper.table().num_rows == 0
        wait_for_rows(scraper, 2)
    assert scraper.table()["time_s"].to_numpy().min() >= 0


def test_a_server_that_goes_away_leaves_a_gap_and_is_counted(tmp_path: Path) -> None:
    with MetricsScraper(tmp_path, ["http://127.0.0.1:9/metrics"], interval_s=0.02) as scraper:
        deadline_s = time.monotonic() + 10
        while scraper.failures < 2 and time.monotonic() < deadline_s:
            time.sleep(0.01)
    assert scraper.failures >= 2
    assert "127.0.0.1:9/metrics" in scraper.problems()[0]
    assert scraper.table().num_rows == 0


def test_a_wrong_address_is_one_line() -> None:
    wrong = "http://127.0.0.1:9/metrics"
    with pytest.raises(
        InputError, match=rf"^--metrics-url {wrong}: no metrics page \(.*\); give the server's /metrics$"
    ):
        find_metrics_pages([wrong], "http://127.0.0.1:8000")


def test_a_servers_own_page_is_found_where_it_tells_of_engines(url: str) -> None:
    assert find_metrics_pages(None, url.removesuffix("/metrics")) == (url,)
    assert find_metrics_pages(None, "http://127.0.0.1:9") == ()


def wait_for_rows(scraper: MetricsScraper, rows: int) -> None:
    """Return once the table has so many rows."""
    deadline_s = time.monotonic() + 10
    while scraper.table().num_rows < rows:
        assert time.monotonic() < deadline_s, "no rows came"
        time.sleep(0.01)
