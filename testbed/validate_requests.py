"""Predicted against measured: every request of a vLLM run on a card, from that card's layer tables alone."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoscaler.interface import HardwareProfile
from autoscaler.profile_fit.catalogue import CARDS
from autoscaler.profile_fit.model_shapes import LLAMA_3_8B
from autoscaler.profile_fit.profile_file import HOST_S_RANGE, MixedRatios, fit_profile, hardware_file
from autoscaler.simulator.engine_replay import replay_arrivals
from autoscaler.simulator.prefix_cache import own_texts
from loadgen.errors import InputError

TARGET_PERCENT = 5.0
FOLDERS = {"rtx4090": "RTX4090", "rtxpro6000": "RTXPRO6000"}


@dataclass(frozen=True, slots=True)
class Latencies:
    """Means over the requests of a run."""

    ttft_s: float
    tpot_s: float
    e2e_s: float

    def errors_percent(self, measured: "Latencies") -> dict[str, float]:
        """How far these are above the measured ones."""
        mine, theirs = asdict(self), asdict(measured)
        return {name.removesuffix("_s"): 100 * (mine[name] / theirs[name] - 1) for name in mine}


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """The requests of a run in order of arrival, and how its engine was set."""

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    latencies: Latencies
    limits: dict[str, Any]
    engine: str
    has_prefix_cache: bool


@dataclass(frozen=True, slots=True)
class RequestsCheck:
    """A run, predicted.

    Attributes:
        has_prefix_cache: of the measured engine, and of the replay, where no two prompts share text.
        by_host_s, without_mixed_terms: how the errors move with what is uncertain.
        without_prefix_cache: the errors of a replay that has none.
    """

    card: str
    fitted_on: str
    engine: str
    has_prefix_cache: bool
    requests: int
    host_s: float
    measured: Latencies
    predicted: Latencies
    by_host_s: Mapping[float, Mapping[str, float]]
    without_mixed_terms: Mapping[str, float]
    without_prefix_cache: Mapping[str, float]

    @property
    def errors_percent(self) -> dict[str, float]:
        """Of the mean TTFT, TPOT and E2E."""
        return self.predicted.errors_percent(self.measured)

    @property
    def is_within_target(self) -> bool:
        """All three."""
        return all(abs(error) <= TARGET_PERCENT for error in self.errors_percent.values())

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            **asdict(self),
            "by_host_s": {f"{host_s:g}": dict(errors) for host_s, errors in self.by_host_s.items()},
            "errors_percent": self.errors_percent,
            "target_percent": TARGET_PERCENT,
            "is_within_target": self.is_within_target,
        }


def check_requests(tables: Path, ratios: MixedRatios) -> Iterator[RequestsCheck]:
    """Check every card of which both layer tables and a measured run are there."""
    for card in CARDS:
        folder = tables / "llmservingsim" / FOLDERS.get(card.key, card.key) / "Llama-3.1-8B" / "bench"
        if not (folder / "requests.jsonl").is_file():
            continue
        run = read_run(folder)
        hardware = hardware_file(card, LLAMA_3_8B, fit_profile(card, LLAMA_3_8B, tables), ratios).profile()
        hardware = replace(hardware, **run.limits)
        by_host_s = {
            host_s: _predicted(replace(hardware, host_s=host_s), run).errors_percent(run.latencies)
            for host_s in (HOST_S_RANGE[0], hardware.host_s, HOST_S_RANGE[1])
        }
        plain = replace(hardware, mixed_sequence_s=0.0, mixed_kv_token_s=0.0)
        yield RequestsCheck(
            card=card.gpu,
            fitted_on=card.tables,
            engine=run.engine,
            has_prefix_cache=run.has_prefix_cache,
            requests=len(run.arrival_s),
            host_s=hardware.host_s,
            measured=run.latencies,
            predicted=_predicted(hardware, run),
            by_host_s=by_host_s,
            without_mixed_terms=_predicted(plain, run).errors_percent(run.latencies),
            without_prefix_cache=_predicted(hardware, replace(run, has_prefix_cache=False)).errors_percent(
                run.latencies
            ),
        )


def read_run(folder: Path) -> MeasuredRun:
    """Read requests.jsonl and meta.json of a run, as LLMServingSim's bench writes them.

    TTFT and E2E are counted from when the engine took the request, as vLLM reports them.

    Raises:
        InputError: a file is missing or not what it should be.
    """
    try:
        lines = (folder / "requests.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        names = ("arrival_time", "queued_ts", "first_token_ts", "last_token_ts", "input_toks", "output_toks")
        columns = {name: np.array([float(row[name]) for row in rows]) for name in names}
        limits = {
            "kv_cache_tokens": int(meta["kv_cache"]["num_gpu_blocks"]) * int(meta["kv_cache"]["block_size"]),
            "block_tokens": int(meta["kv_cache"]["block_size"]),
            "max_sequences": int(meta["engine_kwargs"]["max_num_seqs"]),
            "max_batched_tokens": int(meta["engine_kwargs"]["max_num_batched_tokens"]),
            "max_model_tokens": int(meta["engine_kwargs"]["max_model_len"]),
        }
        has_prefix_cache = bool(meta["kv_cache"]["enable_prefix_caching"])
        engine = f"vLLM {meta['vllm_version']}, prefix cache {'on' if has_prefix_cache else 'off'}"
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: no run of LLMServingSim's bench ({error}); check the folder") from error
    order = np.argsort(columns["arrival_time"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    queued_s, first_s, last_s = (columns[name] for name in ("queued_ts", "first_token_ts", "last_token_ts"))
    outputs = columns["output_toks"].astype(np.int64)
    measured = _means(first_s - queued_s, last_s - queued_s, outputs)
    arrival_s = columns["arrival_time"] - columns["arrival_time"][0]
    return MeasuredRun(
        arrival_s, columns["input_toks"].astype(np.int64), outputs, measured, limits, engine, has_prefix_cache
    )


def _predicted(hardware: HardwareProfile, run: MeasuredRun) -> Latencies:
    """The run, on the engine kernel."""
    texts = own_texts() if run.has_prefix_cache else None
    times = replay_arrivals(hardware, run.arrival_s, run.prompt_tokens, run.output_tokens, texts)
    return _means(times.ttft_s, times.e2e_s, run.output_tokens)


def _means(ttft_s: NDArray[np.float64], e2e_s: NDArray[np.float64], output_tokens: NDArray[np.int64]) -> Latencies:
    tpot_s = (e2e_s - ttft_s) / np.maximum(output_tokens - 1, 1)
    return Latencies(float(ttft_s.mean()), float(tpot_s.mean()), float(e2e_s.mean()))
