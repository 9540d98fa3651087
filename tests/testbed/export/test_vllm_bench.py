"""The export for vLLM's tools: its figures are those that vLLM's own code works out for the same requests."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from loadgen.records import RECORD_SCHEMA
from testbed.export.vllm_bench import vllm_bench_json
from testbed.results import RECORDS, Results, read_results


def with_chunks(folder: Path) -> Results:
    """The run, each request's tokens in chunks of ten that came at even steps, sent 20 ms late."""
    rows = pq.read_table(folder / RECORDS).to_pylist()
    for row in rows:
        row["sent_s"] = row["scheduled_s"] + 0.02
        row["chunk_offsets_s"] = None
        if row["first_token_s"] is not None:
            span_s = row["finished_s"] - row["first_token_s"] - 0.001
            row["chunk_offsets_s"] = np.linspace(0, span_s, max(2, row["output_tokens"] // 10)).tolist()
    rows[5] |= {"sent_s": None, "first_token_s": None, "status": "cancelled", "cause": "run_ended"}
    pq.write_table(type(pq.read_table(folder / RECORDS)).from_pylist(rows, RECORD_SCHEMA), folder / RECORDS)
    return read_results(folder)


@pytest.fixture
def run(tmp_path: Path, story: Any, write_run: Any) -> Results:
    """A run with failures and chunks."""
    return with_chunks(write_run(tmp_path / "run", story))


def test_a_request_is_timed_from_its_send_and_ends_with_its_last_chunk(run: Results) -> None:
    document = vllm_bench_json(run)
    sent = run.records[run.records["sent_s"].notna()].sort_values(["sent_s", "request_id"]).to_dict("records")
    assert document["num_prompts"] == len(document["ttfts"]) == len(run.records) - 1, "one was never sent"
    place = next(place for place, row in enumerate(sent) if row["status"] == "ok")
    assert document["ttfts"][place] == pytest.approx(sent[place]["first_token_s"] - sent[place]["scheduled_s"] - 0.02)
    assert sum(document["itls"][place]) == pytest.approx(sent[place]["chunk_offsets_s"][-1])
    failed = next(place for place, row in enumerate(sent) if row["status"] != "ok")
    assert document["errors"][failed]
    assert (document["output_lens"][failed], document["errors"][place]) == (0, "")
    assert (document["completed"], document["failed"]) == (
        sum(row["status"] == "ok" for row in sent),
        sum(row["status"] != "ok" for row in sent),
    )
    json.dumps(document, allow_nan=False)


def test_a_run_without_requests_exports_zeros(tmp_path: Path, story: Any, write_run: Any) -> None:
    document = vllm_bench_json(read_results(write_run(tmp_path / "run", dataclasses.replace(story, records=[]))))
    assert (document["completed"], document["duration"], document["mean_ttft_ms"]) == (0, 0.0, 0.0)


@pytest.mark.vllm
def test_the_figures_are_those_of_vllms_own_code_and_its_plot_reads_the_file(run: Results, tmp_path: Path) -> None:
    from vllm.benchmarks.lib.endpoint_request_func import RequestFuncOutput
    from vllm.benchmarks.plot import generate_timeline_plot
    from vllm.benchmarks.serve import calculate_metrics

    document = json.loads(json.dumps(vllm_bench_json(run)))
    outputs = []
    for row in run.records.to_dict("records"):
        if np.isnan(row["sent_s"]):
            continue
        chunks = row["chunk_offsets_s"]
        ended_s = row["finished_s"] if chunks is None else row["first_token_s"] + float(chunks[-1])
        outputs.append(
            RequestFuncOutput(
                success=row["status"] == "ok",
                latency=ended_s - row["sent_s"],
                output_tokens=row["output_tokens"],
                ttft=0.0 if np.isnan(row["first_token_s"]) else row["first_token_s"] - row["sent_s"],
                itl=[] if chunks is None else np.diff(np.asarray(chunks, dtype=np.float64)).tolist(),
                prompt_len=row["prompt_tokens"],
                start_time=row["sent_s"],
            )
        )
    slo = next(iter(run.config["serve"]["services"].values()))
    promise = {"ttft": 1000 * slo["ttft_s"], "tpot": 1000 * slo["tpot_s"]}
    theirs, lengths = calculate_metrics([], outputs, document["duration"], None, [99], promise)
    assert lengths == document["output_lens"]
    for name in ("completed", "failed", "request_throughput", "output_throughput", "total_token_throughput"):
        assert document[name] == pytest.approx(getattr(theirs, name)), name
    for name in ("max_output_tokens_per_s", "max_concurrent_requests"):
        assert document[name] == getattr(theirs, name), name
    for latency in ("ttft", "tpot", "itl", "e2el"):
        for figure in ("mean", "median", "std"):
            assert document[f"{figure}_{latency}_ms"] == pytest.approx(getattr(theirs, f"{figure}_{latency}_ms"))
        assert document[f"p99_{latency}_ms"] == pytest.approx(getattr(theirs, f"percentiles_{latency}_ms")[0][1])
    fields = {"start_time": "start_times", "ttft": "ttfts", "itl": "itls", "prompt_len": "input_lens"}
    requests = [
        {name: document[column][place] for name, column in fields.items()} | {"latency": 1.0, "output_tokens": 1}
        for place in range(len(document["ttfts"]))
    ]
    generate_timeline_plot(requests, tmp_path / "timeline.html")
    assert (tmp_path / "timeline.html").stat().st_size > 1000
