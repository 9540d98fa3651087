"""Reads a server's Prometheus metrics while it is loaded: what each of its engines ran, queued, held and made.

vLLM names them `vllm:num_requests_running` and so on, under Ray `ray_vllm:...` or `ray_vllm_...`, with a label for the
engine or the replica. Where a server has only Ray Serve's own metrics, the requests in its replicas are what there is.

Source: vllm 0.29.0, v1/metrics/loggers.py and ray_wrappers.py; ray 2.60.0, serve/_private/replica.py.
"""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
from prometheus_client.parser import text_string_to_metric_families

from autoscaler.fleet_tables import ENGINE_SCHEMA, REPLICA_SCHEMA
from loadgen.errors import InputError
from loadgen.failure_phase import ServerWord
from loadgen.web_page import fetch_page
from testbed.repeated import Repeated
from testbed.results import write_tables

_TIMEOUT_S = 2.0
_VLLM_NAME = re.compile(r"^(?:ray_)?vllm[:_](?P<name>\w+)$")
_REPLICA_LABELS = ("ReplicaId", "replica", "engine")
# The fraction's name up to vLLM 0.9 and since.
_KV_NAMES = ("kv_cache_usage_perc", "gpu_cache_usage_perc")


@dataclass(slots=True)
class EngineGauges:
    """One engine's metrics at one moment."""

    running: int = 0
    waiting: int = 0
    kv_cache_fraction: float = 0.0
    output_tokens_total: int = 0


def read_engine_gauges(text: str) -> dict[str, EngineGauges]:
    """The engines that a metrics page tells of, by the replica's or the engine's name.

    Raises:
        ValueError: the text is no Prometheus page.
    """
    engines: dict[str, EngineGauges] = {}
    replicas: dict[str, EngineGauges] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found = _VLLM_NAME.match(sample.name)
            if found:
                _take(engines.setdefault(_replica(sample.labels), EngineGauges()), found["name"], sample.value)
            elif sample.name.endswith("serve_replica_processing_queries"):
                replicas.setdefault(_replica(sample.labels), EngineGauges()).running += int(sample.value)
    return engines or replicas


def _take(gauges: EngineGauges, name: str, value: float) -> None:
    if name == "num_requests_running":
        gauges.running = int(value)
    elif name == "num_requests_waiting":
        gauges.waiting = int(value)
    elif name in _KV_NAMES:
        gauges.kv_cache_fraction = value
    elif name == "generation_tokens_total":
        gauges.output_tokens_total = int(value)


def _replica(labels: dict[str, str]) -> str:
    for label in _REPLICA_LABELS:
        if labels.get(label):
            return labels[label] if label != "engine" else f"engine-{labels[label]}"
    return "engine"


class MetricsScraper:
    """Scrapes metrics pages in a thread of its own until it is closed; a context manager.

    A page that cannot be read leaves a gap and is counted; nothing that the server does ends the run.
    """

    def __init__(self, folder: Path, urls: Iterable[str], interval_s: float) -> None:
        """What was read comes into the results folder `folder` at the end, where there are pages at all."""
        self._folder = folder
        self._urls = tuple(urls)
        self._start_epoch_s = time.time()
        self._rows: list[tuple[float, dict[str, object]]] = []
        self._before: dict[tuple[str, str], tuple[float, int]] = {}
        self._thread = Repeated(self._scrape_all, interval_s, "metrics scraper")
        self.failures = 0
        self.last_error: str | None = None

    def __enter__(self) -> Self:
        self._thread.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.__exit__(kind, error, traceback)
        if self._urls:
            write_tables(self._folder, replicas=REPLICA_SCHEMA.empty_table(), engine=self.table())

    def start(self, start_epoch_s: float) -> None:
        """The run starts at this instant of the wall clock: rows count from it."""
        self._start_epoch_s = start_epoch_s

    def replicas_now(self) -> None:
        """Metrics tell of engines, not of replicas that come and go."""

    def target_at_start(self) -> None:
        """Nor how many of them are wanted."""

    def server_word(self, _run_tag: str) -> ServerWord:
        """Nor of single requests."""
        return ServerWord()

    def table(self) -> pa.Table:
        """What was read since the run's start, a row per engine and scrape, with `ENGINE_SCHEMA`."""
        rows = [
            {**row, "time_s": epoch_s - self._start_epoch_s}
            for epoch_s, row in list(self._rows)
            if epoch_s >= self._start_epoch_s
        ]
        return pa.Table.from_pylist(rows, schema=ENGINE_SCHEMA)

    def problems(self) -> list[str]:
        """A sentence where pages could not be read."""
        if not self.failures:
            return []
        return [f"{self.failures} times the server's metrics could not be read, at last: {self.last_error}"]

    def _scrape_all(self) -> None:
        for place, url in enumerate(self._urls):
            try:
                self._scrape(url, f"{place}/" if len(self._urls) > 1 else "")
            except (OSError, ValueError) as error:
                self.failures += 1
                self.last_error = f"{url}: {error}"

    def _scrape(self, url: str, prefix: str) -> None:
        text = _fetch(url)
        now_s = time.time()
        for name, gauges in read_engine_gauges(text).items():
            before_s, before_tokens = self._before.get((url, name), (now_s, gauges.output_tokens_total))
            self._before[url, name] = (now_s, gauges.output_tokens_total)
            row = {
                "replica_id": prefix + name,
                "running": gauges.running,
                "waiting": gauges.waiting,
                "kv_cache_fraction": gauges.kv_cache_fraction,
                "output_tokens": max(0, gauges.output_tokens_total - before_tokens),  # a restarted engine begins at 0
                "interval_s": now_s - before_s,
            }
            self._rows.append((now_s, row))


def find_metrics_pages(urls: Sequence[str] | None, server: str) -> tuple[str, ...]:
    """The pages to scrape: those named, or the server's own /metrics where it has one that tells of engines.

    Raises:
        InputError: a page that was named cannot be read.
    """
    if urls is None:
        own = f"{server}/metrics"
        try:
            return (own,) if read_engine_gauges(_fetch(own)) else ()
        except (OSError, ValueError):
            return ()
    for url in urls:
        try:
            read_engine_gauges(_fetch(url))
        except (OSError, ValueError) as error:
            raise InputError(f"--metrics-url {url}: no metrics page ({error}); give the server's /metrics") from error
    return tuple(urls)


def _fetch(url: str) -> str:
    return fetch_page(url, timeout_s=_TIMEOUT_S)
