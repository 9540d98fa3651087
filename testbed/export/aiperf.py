"""A run as AIPerf writes it (profile_export.jsonl, profile_export_aiperf.json), for the tools that read these files.

Source: aiperf 0.13.0, common/models/record_models.py and export_models.py, metrics/types; export schema 1.4.
"""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from loadgen.metrics import Floats
from loadgen.records import Cause, Status
from testbed.counted_part import counted_records
from testbed.export.sent_requests import SentRequests, sent_requests
from testbed.results import Results

REQUESTS_FILE, SUMMARY_FILE = "profile_export.jsonl", "profile_export_aiperf.json"
_SCHEMA_VERSION = "1.4"
_LEVELS = (1, 5, 10, 25, 50, 75, 90, 95, 99)
_NS_PER_S = 1_000_000_000


def write_aiperf_files(results: Results, folder: Path) -> tuple[Path, Path]:
    """Write both files into `folder`, which is made; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    requests, start_epoch_s = sent_requests(counted_records(results)), _start_epoch_s(results)
    lines = (json.dumps(line, allow_nan=False) + "\n" for line in request_lines(requests, start_epoch_s))
    with (folder / REQUESTS_FILE).open("w", encoding="utf-8") as file:
        file.writelines(lines)
    summary = json.dumps(summary_document(results, requests, start_epoch_s), indent=2, allow_nan=False)
    (folder / SUMMARY_FILE).write_text(summary + "\n", encoding="utf-8")
    return folder / REQUESTS_FILE, folder / SUMMARY_FILE


def request_lines(requests: SentRequests, start_epoch_s: float) -> Iterator[dict[str, Any]]:
    """One line for each request that was sent, with its instants by the wall clock."""
    for place, row in enumerate(requests.rows.to_dict("records")):
        is_ok = bool(requests.is_ok[place])
        yield {
            "metadata": {
                "session_num": int(row["request_id"]),
                "x_request_id": str(row["request_id"]),
                "credit_issued_ns": _wall_ns(start_epoch_s, row["scheduled_s"]),
                "request_start_ns": _wall_ns(start_epoch_s, row["sent_s"]),
                "request_end_ns": _wall_ns(start_epoch_s, requests.ended_s[place]),
                "worker_id": "burstscale",
                "record_processor_id": "burstscale",
                "benchmark_phase": "profiling",
                "was_cancelled": row["status"] == Status.CANCELLED,
            },
            "metrics": _request_metrics(requests, place) if is_ok else {},
            "error": None if is_ok else _error(row),
        }


def _request_metrics(requests: SentRequests, place: int) -> dict[str, dict[str, Any]]:
    tokens = int(requests.output_tokens[place])
    ttft_ms, latency_ms = 1000 * float(requests.ttft_s[place]), 1000 * float(requests.latency_s[place])
    metrics: dict[str, dict[str, Any]] = {
        "request_latency": {"value": latency_ms, "unit": "ms"},
        "time_to_first_token": {"value": ttft_ms, "unit": "ms"},
        "output_sequence_length": {"value": tokens, "unit": "tokens"},
        "input_sequence_length": {"value": int(requests.rows["prompt_tokens"].iloc[place]), "unit": "tokens"},
    }
    if tokens > 1:
        metrics["inter_token_latency"] = {"value": (latency_ms - ttft_ms) / (tokens - 1), "unit": "ms"}
    gaps_ms = 1000 * requests.gaps_s[place]
    if len(gaps_ms):
        metrics["time_to_second_token"] = {"value": float(gaps_ms[0]), "unit": "ms"}
        metrics["inter_chunk_latency"] = {"value": gaps_ms.tolist(), "unit": "ms"}
    return metrics


def summary_document(results: Results, requests: SentRequests, start_epoch_s: float) -> dict[str, Any]:
    """The figures of the whole run: percentiles over the requests that ended ok, and what happened to the others."""
    is_ok = requests.is_ok
    tokens = requests.output_tokens
    more = is_ok & (tokens > 1)
    duration_s = float(requests.ended_s.max() - requests.sent_s.min()) if len(tokens) else 0.0
    gaps_s = [gaps_s for gaps_s, ok in zip(requests.gaps_s, is_ok, strict=True) if ok]
    rows = requests.rows
    found: dict[str, Any] = {
        "schema_version": _SCHEMA_VERSION,
        "request_latency": _distribution(1000 * requests.latency_s[is_ok], "ms"),
        "time_to_first_token": _distribution(1000 * requests.ttft_s[is_ok], "ms"),
        "inter_token_latency": _distribution(
            1000 * (requests.latency_s - requests.ttft_s)[more] / (tokens[more] - 1), "ms"
        ),
        "inter_chunk_latency": _distribution(1000 * np.concatenate([np.zeros(0), *gaps_s]), "ms"),
        "output_sequence_length": _distribution(tokens[is_ok].astype(np.float64), "tokens"),
        "input_sequence_length": _distribution(rows["prompt_tokens"].to_numpy(np.float64)[is_ok], "tokens"),
        "request_count": _scalar(int(is_ok.sum()), "requests"),
        "error_request_count": _scalar(int((~is_ok).sum()), "requests"),
        "benchmark_duration": _scalar(duration_s, "sec"),
    }
    if duration_s > 0:
        found["request_throughput"] = _scalar(int(is_ok.sum()) / duration_s, "requests/sec")
        found["output_token_throughput"] = _scalar(int(tokens[is_ok].sum()) / duration_s, "tokens/sec")
    errors = Counter(json.dumps(_error(row), sort_keys=True) for row in rows[~is_ok].to_dict("records"))
    last_s = float(requests.ended_s.max()) if len(tokens) else 0.0
    return {key: value for key, value in found.items() if value is not None} | {
        "was_cancelled": bool((rows["status"] == Status.CANCELLED).any()),
        "is_complete": results.complete,
        "error_summary": [
            {"error_details": json.loads(error), "count": count} for error, count in errors.most_common()
        ],
        "start_time": _iso(start_epoch_s),
        "end_time": _iso(start_epoch_s + last_s),
    }


def _distribution(values: Floats, unit: str) -> dict[str, Any] | None:
    """Mean, percentiles and ends; None = nothing to describe."""
    if len(values) == 0:
        return None
    levels = dict(zip((f"p{level}" for level in _LEVELS), np.percentile(values, _LEVELS).tolist(), strict=True))
    ends = {"min": float(values.min()), "max": float(values.max()), "std": float(values.std())}
    return {
        "unit": unit,
        "avg": float(values.mean()),
        **levels,
        **ends,
        "count": len(values),
        "sum": float(values.sum()),
    }


def _scalar(value: float, unit: str) -> dict[str, Any]:
    return {"unit": unit, "avg": value}


def _error(row: dict[Any, Any]) -> dict[str, Any]:
    """What became of a request that did not end ok, one kind for each status and cause."""
    cause = row["cause"] or Cause.BAD_STATUS
    return {"code": None, "type": str(cause), "message": f"{row['status']}: {str(cause).replace('_', ' ')}"}


def _start_epoch_s(results: Results) -> float:
    started = results.environment.get("started_at")
    return datetime.fromisoformat(started).timestamp() if started else 0.0


def _wall_ns(start_epoch_s: float, at_s: float) -> int:
    return round((start_epoch_s + at_s) * _NS_PER_S)


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat()
