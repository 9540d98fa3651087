"""Predicted against measured: TPOT of vLLM runs with fixed concurrency, from sums of measured kernels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autoscaler.interface import HardwareProfile
from autoscaler.profile_fit.catalogue import CARDS
from autoscaler.profile_fit.model_shapes import LLAMA_3_8B, LLAMA_3_70B_ON_4
from autoscaler.profile_fit.profile_file import HOST_S_RANGE, MixedRatios, fit_profile, hardware_file
from autoscaler.simulator.cost_model import HardwareFile
from autoscaler.simulator.engine_replay import replay_concurrent
from loadgen.errors import InputError

TARGET_PERCENT = 6.0
COMPARED_MODEL = "meta-llama/Llama-3.1-70B"
LEFT_OUT_MODEL = "nvidia/Llama-3.1-8B-Instruct-FP8"
SHAPES = {COMPARED_MODEL: LLAMA_3_70B_ON_4, LEFT_OUT_MODEL: LLAMA_3_8B}
SYSTEMS = {"h100_sxm": "h100", "h200_sxm": "h200"}
KV_BYTES = {"h100": 2, "h200": 1}
REQUESTS_PER_PLACE = 10
SHORTEST_FRACTION = 0.8
MAX_BATCHED_TOKENS = 8192
MAX_MODEL_TOKENS = 16384


@dataclass(frozen=True, slots=True)
class SiliconRun:
    """One measured run: so many requests at a time, of so many tokens."""

    model: str
    gpu: str
    tensor_parallel: int
    concurrency: int
    prompt_tokens: int
    output_tokens: int
    measured_ttft_s: float
    measured_tpot_s: float


@dataclass(frozen=True, slots=True)
class PredictedRun:
    """A run with what was predicted, in means over its requests."""

    run: SiliconRun
    ttft_s: float
    tpot_s: float

    @property
    def tpot_error_percent(self) -> float:
        """How far the prediction is above the measured TPOT."""
        return 100 * (self.tpot_s / self.run.measured_tpot_s - 1)

    @property
    def ttft_error_percent(self) -> float:
        """How far the prediction is above the measured TTFT, which a client took over HTTP."""
        return 100 * (self.ttft_s / self.run.measured_ttft_s - 1)


@dataclass(frozen=True, slots=True)
class SiliconCheck:
    """The compared runs, and those left out."""

    compared: Sequence[PredictedRun]
    left_out: Sequence[PredictedRun]

    @property
    def is_within_target(self) -> bool:
        """Whether the mean TPOT error of the compared runs is."""
        return mean_error_percent(self.compared) <= TARGET_PERCENT

    def by_cards(self) -> dict[str, float]:
        """Mean TPOT error of each card and number of cards, such as 'h100 tp2'."""
        names = sorted({_cards(predicted.run) for predicted in self.compared})
        return {name: mean_error_percent(p for p in self.compared if _cards(p.run) == name) for name in names}

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "runs": len(self.compared),
            "mean_tpot_error_percent": mean_error_percent(self.compared),
            "median_ttft_error_percent": _median_ttft_error_percent(self.compared),
            "target_percent": TARGET_PERCENT,
            "is_within_target": self.is_within_target,
            "by_cards": self.by_cards(),
            "rows": [_row(predicted) for predicted in self.compared],
            "left_out": {
                "runs": len(self.left_out),
                "mean_tpot_error_percent": mean_error_percent(self.left_out),
                "rows": [_row(predicted) for predicted in self.left_out],
            },
        }


def mean_error_percent(predicted: Iterable[PredictedRun]) -> float:
    """Mean of the absolute TPOT errors."""
    return float(np.mean([abs(one.tpot_error_percent) for one in predicted]))


def check_silicon(tables: Path, ratios: MixedRatios) -> SiliconCheck:
    """Predict every run.

    The runs were made with InferenceMAX's scripts: all places taken at once, a new request for each that ends, ten
    requests a place, lengths drawn evenly from 0.8 to 1 times the nominal ones, `max_sequences` equal to the
    concurrency, 8,192 tokens a step, no prefix cache. The replay does the same. FP8 weights; the KV cache is FP8 on the
    H200, as the scripts say, and bfloat16 on the H100, whose runs queue where such a cache is full.

    Raises:
        InputError: the measured runs or a table are missing.

    Source: SemiAnalysisAI/InferenceX, benchmarks/70b_fp8_h100_slurm.sh and 70b_fp8_h200_slurm.sh of 2025.
    """
    runs = read_runs(tables)
    files = _hardware_files(runs, tables, ratios, KV_BYTES)
    predicted = [_predicted(run, files[_key(run)].profile()) for run in runs]
    return SiliconCheck(
        [one for one in predicted if one.run.model == COMPARED_MODEL],
        [one for one in predicted if one.run.model == LEFT_OUT_MODEL],
    )


def errors_otherwise(tables: Path, ratios: MixedRatios) -> Iterator[tuple[str, float]]:
    """Mean TPOT errors of the compared runs under other assumptions, one at a time: (assumption, percent)."""
    runs = [run for run in read_runs(tables) if run.model == COMPARED_MODEL]
    files = _hardware_files(runs, tables, ratios, KV_BYTES)
    for host_s in HOST_S_RANGE:
        yield f"host {host_s * 1000:g} ms", _mean(runs, files, host_s=host_s)
    yield "no mixed-step terms", _mean(runs, files, mixed=0)
    yield "mixed-step terms at most", _mean(runs, files, mixed=1)
    for name, kv_bytes in (("KV cache bfloat16 on both", 2), ("KV cache FP8 on both", 1)):
        yield name, _mean(runs, _hardware_files(runs, tables, ratios, dict.fromkeys(KV_BYTES, kv_bytes)))
    yield "lengths all nominal", _mean(runs, files, shortest_fraction=1.0)


def read_runs(tables: Path) -> list[SiliconRun]:
    """The vLLM runs of dense Llama models with FP8 weights on Hopper cards.

    Raises:
        InputError: there is no such file.

    Source: ai-dynamo/aiconfigurator, systems/silicon_sample.csv.
    """
    path = tables / "aiconfigurator" / "silicon" / "silicon_sample.csv"
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the folder of measured tables with --data")
    table = pd.read_csv(path)
    kept = table[(table["backend"] == "vllm") & table["model_path"].isin(SHAPES) & table["system"].isin(SYSTEMS)]
    return [
        SiliconRun(
            model=str(row["model_path"]),
            gpu=SYSTEMS[str(row["system"])],
            tensor_parallel=int(row["tp_size"]),
            concurrency=int(row["batch_size"]),
            prompt_tokens=int(row["isl"]),
            output_tokens=int(row["osl"]),
            measured_ttft_s=float(row["silicon_ttft_ms"]) / 1000,
            measured_tpot_s=float(row["silicon_tpot_ms"]) / 1000,
        )
        for row in kept.to_dict("records")
    ]


def _hardware_files(
    runs: Iterable[SiliconRun], tables: Path, ratios: MixedRatios, kv_bytes: Mapping[str, int]
) -> dict[tuple[str, str, int], HardwareFile]:
    """A profile for each model, card and number of cards."""
    cards = {card.key: card for card in CARDS}
    files = {}
    for model, gpu, tensor_parallel in sorted({_key(run) for run in runs}):
        shape = replace(
            SHAPES[model],
            tensor_parallel=tensor_parallel,
            weight_bytes_per_value=1,
            kv_bytes_per_value=kv_bytes[gpu],
            max_model_tokens=MAX_MODEL_TOKENS,
        )
        fit = fit_profile(cards[gpu], shape, tables)
        files[model, gpu, tensor_parallel] = hardware_file(cards[gpu], shape, fit, ratios)
    return files


def _mean(
    runs: Iterable[SiliconRun],
    files: Mapping[tuple[str, str, int], HardwareFile],
    host_s: float | None = None,
    mixed: int | None = None,
    shortest_fraction: float = SHORTEST_FRACTION,
) -> float:
    """The mean TPOT error with another host time, mixed-step terms at an end of their range, or other lengths."""
    predicted = []
    for run in runs:
        file = files[_key(run)]
        hardware = file.profile()
        if host_s is not None:
            hardware = replace(hardware, host_s=host_s)
        if mixed is not None:
            hardware = replace(
                hardware,
                mixed_sequence_s=file.mixed_sequence_s_range[mixed],
                mixed_kv_token_s=file.mixed_kv_token_s_range[mixed],
            )
        predicted.append(_predicted(run, hardware, shortest_fraction))
    return mean_error_percent(predicted)


def _predicted(
    run: SiliconRun, hardware: HardwareProfile, shortest_fraction: float = SHORTEST_FRACTION
) -> PredictedRun:
    """The run, on the engine kernel; its lengths are drawn with one seed for all runs."""
    rng = np.random.default_rng(0)
    requests = REQUESTS_PER_PLACE * run.concurrency
    prompts, outputs = (
        rng.integers(int(shortest_fraction * tokens), tokens + 1, requests)
        for tokens in (run.prompt_tokens, run.output_tokens)
    )
    hardware = replace(hardware, max_sequences=run.concurrency, max_batched_tokens=MAX_BATCHED_TOKENS)
    times = replay_concurrent(hardware, run.concurrency, prompts, outputs)
    return PredictedRun(run, float(times.ttft_s.mean()), float(times.tpot_s(outputs).mean()))


def _key(run: SiliconRun) -> tuple[str, str, int]:
    return run.model, run.gpu, run.tensor_parallel


def _cards(run: SiliconRun) -> str:
    return f"{run.gpu} tp{run.tensor_parallel}"


def _median_ttft_error_percent(predicted: Iterable[PredictedRun]) -> float:
    return float(np.median([one.ttft_error_percent for one in predicted]))


def _row(predicted: PredictedRun) -> dict[str, Any]:
    return {
        **asdict(predicted.run),
        "predicted_ttft_s": predicted.ttft_s,
        "predicted_tpot_s": predicted.tpot_s,
        "tpot_error_percent": predicted.tpot_error_percent,
    }
