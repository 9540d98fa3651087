"""A run as the JSON that `vllm bench serve --save-result --save-detailed` writes, for the tools that read it.

vLLM counts from the send, not from the scheduled instant, and leaves failures out of its percentiles: what our summary
says of a late client or of failures is not in this file.

Source: vllm 0.29.0, benchmarks/serve.py (calculate_metrics, benchmark, add_cli_args).
"""

from datetime import datetime
from typing import Any

import numpy as np

from loadgen.metrics import Floats
from testbed.counted_part import counted_records
from testbed.export.sent_requests import SentRequests, sent_requests
from testbed.results import Results
from testbed.summary import service_slos

_LEVEL = 99


def vllm_bench_json(results: Results) -> dict[str, Any]:
    """The document; `generated_texts` are empty, as texts are not kept."""
    requests = sent_requests(counted_records(results))
    is_ok = requests.is_ok
    count = len(requests.rows)
    output_lens = np.where(is_ok, requests.output_tokens, 0)
    duration_s = float(np.nanmax(requests.ended_s) - requests.sent_s.min()) if count else 0.0
    input_tokens = int(requests.rows["prompt_tokens"].to_numpy(np.int64)[is_ok].sum())
    output_tokens = int(output_lens.sum())
    tokens_per_s, concurrent = _peaks(requests)
    return {
        **_head(results, count),
        "duration": duration_s,
        "completed": int(is_ok.sum()),
        "failed": int(count - is_ok.sum()),
        "total_input_tokens": input_tokens,
        "total_output_tokens": output_tokens,
        "request_throughput": _per_s(int(is_ok.sum()), duration_s),
        "request_goodput": _per_s(_good(results, requests), duration_s),
        "output_throughput": _per_s(output_tokens, duration_s),
        "total_token_throughput": _per_s(input_tokens + output_tokens, duration_s),
        "input_lens": requests.rows["prompt_tokens"].tolist(),
        "output_lens": output_lens.tolist(),
        "ttfts": np.nan_to_num(requests.ttft_s).tolist(),
        "itls": [gaps_s.tolist() for gaps_s in requests.gaps_s],
        "start_times": requests.sent_s.tolist(),
        "generated_texts": [""] * count,
        "errors": ["" if ok else _error(row) for ok, row in zip(is_ok, requests.rows.to_dict("records"), strict=True)],
        "max_output_tokens_per_s": tokens_per_s,
        "max_concurrent_requests": concurrent,
        "rtfx": 0.0,
        **_latencies(requests),
    }


def _head(results: Results, count: int) -> dict[str, Any]:
    """What was asked of the run."""
    trace = results.environment.get("trace") or {}
    duration_s = float(trace.get("duration_s") or 0.0)
    model = str(results.records["model"].iloc[0]) if len(results.records) else ""
    started = datetime.fromisoformat(results.environment.get("started_at") or "1970-01-01T00:00:00+00:00")
    return {
        "date": started.strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": "openai-chat",
        "backend": "openai-chat",
        "label": str(results.config.get("name") or "burstscale"),
        "model_id": model,
        "tokenizer_id": model,
        "num_prompts": count,
        "request_rate": len(counted_records(results)) / duration_s if duration_s else "inf",
        "burstiness": 1.0,
        "max_concurrency": None,
    }


def _latencies(requests: SentRequests) -> dict[str, float]:
    """Mean, median, deviation and p99 of each latency, over the requests that ended ok."""
    is_ok = requests.is_ok
    more = is_ok & (requests.output_tokens > 1)
    tpot_s = (requests.latency_s - requests.ttft_s)[more] / (requests.output_tokens[more] - 1)
    gaps_s = [gaps_s for gaps_s, ok in zip(requests.gaps_s, is_ok, strict=True) if ok]
    values_s: dict[str, Floats] = {
        "ttft": requests.ttft_s[is_ok],
        "tpot": tpot_s,
        "itl": np.concatenate([np.zeros(0), *gaps_s]),
        "e2el": requests.latency_s[is_ok],
    }
    found: dict[str, float] = {}
    for name, latencies_s in values_s.items():
        ms = 1000 * (latencies_s if len(latencies_s) else np.zeros(1))
        found[f"mean_{name}_ms"] = float(ms.mean())
        found[f"median_{name}_ms"] = float(np.median(ms))
        found[f"std_{name}_ms"] = float(ms.std())
        found[f"p{_LEVEL}_{name}_ms"] = float(np.percentile(ms, _LEVEL))
    return found


def _good(results: Results, requests: SentRequests) -> int:
    """Requests that ended ok within the run's promises, timed as vLLM times them."""
    tpot_s = np.zeros(len(requests.rows))
    more = requests.output_tokens > 1
    tpot_s[more] = (requests.latency_s - requests.ttft_s)[more] / (requests.output_tokens[more] - 1)
    good = 0
    for service, slo in service_slos(results.config).items():
        is_fast = (requests.ttft_s <= slo.ttft_s) & (tpot_s <= slo.tpot_s)
        good += int((is_fast & requests.is_ok & (requests.rows["service"] == service).to_numpy()).sum())
    return good


def _peaks(requests: SentRequests) -> tuple[float, int]:
    """The most chunks, and the most requests under way, in a second since the first of those that ended ok."""
    is_ok = requests.is_ok
    if not is_ok.any():
        return 0.0, 0
    start_s = float(requests.sent_s[is_ok].min())
    seconds = int(np.ceil(float(requests.ended_s[is_ok].max()) - start_s)) + 1
    chunks, changes = np.zeros(seconds), np.zeros(seconds + 1)
    for index in np.flatnonzero(is_ok):
        sent_s = requests.sent_s[index] - start_s
        chunks_s = sent_s + requests.ttft_s[index] + np.concatenate([[0.0], np.cumsum(requests.gaps_s[index])])
        np.add.at(chunks, np.minimum(chunks_s.astype(np.int64), seconds - 1), 1)
        changes[int(sent_s)] += 1
        changes[int(sent_s + requests.latency_s[index]) + 1] -= 1
    return float(chunks.max()), int(np.cumsum(changes).max())


def _per_s(amount: float, duration_s: float) -> float:
    return amount / duration_s if duration_s > 0 else 0.0


def _error(row: dict[Any, Any]) -> str:
    return str(row["error"] or row["cause"] or row["status"])
