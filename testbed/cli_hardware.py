"""`burstscale hardware` and `burstscale validate`: what the profiles say, and how close predictions from them come."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from loadgen.errors import InputError
from testbed.cli_run import AsJson
from testbed.cli_validate import validate_emulated, validate_vllm

if TYPE_CHECKING:
    from autoscaler.simulator.cost_model import HardwareFile
    from testbed.validate_requests import RequestsCheck
    from testbed.validate_silicon import SiliconCheck

console = Console()

CONTEXT_TOKENS = 512
PROMPT_TOKENS = 2048


def hardware_command(as_json: AsJson = False) -> None:
    """List the hardware profiles: card, model, cache, speeds, source and fit error."""
    from autoscaler.simulator.cost_model import known_hardware, read_hardware

    rows = [_profile_row(read_hardware(name)) for name in known_hardware()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(title="hardware profiles", title_justify="left", caption_justify="left")
    for column in ("name", "card", "KV tokens"):
        table.add_column(column, overflow="fold", justify="right" if column == "KV tokens" else "left")
    for column in ("decode step, 1 / 64 sequences", "prefill tokens/s", "fit error, prefill / decode / mixed"):
        table.add_column(column, justify="right")
    for row in rows:
        errors = row["fit_error_percent"]
        table.add_row(
            row["name"],
            f"{row['gpus']} x {row['gpu']}" if row["gpus"] > 1 else row["gpu"],
            f"{row['kv_cache_tokens']:,}",
            " / ".join(
                _milliseconds(row[f"decode_step_{sequences}_s"]) for sequences in ("1_sequence", "64_sequences")
            ),
            f"{row['prefill_tokens_per_s']:,.0f}",
            " / ".join(_percent(errors[kind]) for kind in ("prefill", "decode", "mixed")) if errors else "not fitted",
        )
    table.caption = (
        f"decode steps at {CONTEXT_TOKENS} tokens of context each (- where the KV cache is too small), prefill of one "
        f"prompt of {PROMPT_TOKENS:,} tokens, host time included; sources and ranges: --json"
    )
    console.print(table)


def validate_command(
    data: Annotated[Path | None, typer.Option(help="Folder with the measured tables and runs.")] = None,
    vllm: Annotated[bool, typer.Option("--vllm", help="Instead: real vLLM here, 4 minutes.")] = False,
    emulated: Annotated[bool, typer.Option("--emulated", help="Instead: the emulated engine, in real time.")] = False,
    minutes: Annotated[float, typer.Option(min=0.1, help="With --emulated: how long.")] = 10.0,
    trace: Annotated[Path | None, typer.Option(help="With --emulated: a trace or a workload model.")] = None,
    as_json: AsJson = False,
) -> None:
    """Predict measured vLLM runs from kernel tables alone, and print how far off that is. Takes a minute.

    With --vllm: start vLLM on this machine, fit a profile on one load and predict another. With --emulated: play
    a trace on the emulated engine in real time and simulate the same.
    """
    if vllm and emulated:
        raise InputError("validate: give --vllm or --emulated, one at a time: both measure time on this machine")
    if vllm:
        validate_vllm(as_json)
    elif emulated:
        validate_emulated(minutes, trace, as_json)
    else:
        _validate_tables(data, as_json)


def _validate_tables(data: Path | None, as_json: bool) -> None:
    """The checks by public tables and runs."""
    from autoscaler.profile_fit.profile_file import mixed_ratios
    from testbed.validate_requests import check_requests
    from testbed.validate_silicon import check_silicon, errors_otherwise

    tables = _tables_folder(data)
    ratios = mixed_ratios(tables)
    requests, silicon = list(check_requests(tables, ratios)), check_silicon(tables, ratios)
    otherwise = dict(errors_otherwise(tables, ratios))
    if as_json:
        silicon_json = {**silicon.as_json(), "otherwise": otherwise}
        print(json.dumps({"requests": [check.as_json() for check in requests], "silicon": silicon_json}, indent=2))
        return
    for check in requests:
        _print_requests(check)
    _print_silicon(silicon, otherwise)


def _tables_folder(data: Path | None) -> Path:
    """The folder of tables: as given, with or without its last part; else in the cache folder, or beside the checkout.

    Raises:
        InputError: it is in none of them.
    """
    from loadgen.fetch import data_folder

    beside = Path(__file__).parents[2] / "shared" / "data"
    parents = [data] if data is not None else [data_folder(), beside]
    for parent in parents:
        for folder in (parent, parent / "gpu_profiles"):
            if (folder / "aiconfigurator").is_dir() and (folder / "llmservingsim").is_dir():
                return folder
    looked = " or ".join(os.path.normpath(parent) for parent in parents)
    raise InputError(
        f"validate: no folders aiconfigurator and llmservingsim in {looked}; give --data (docs/fidelity.md)"
    )


def _profile_row(hardware: "HardwareFile") -> dict[str, Any]:
    """A profile as a planner reads it."""
    from autoscaler.simulator.cost_model import step_duration_s

    profile = hardware.profile()

    def decode_step_s(sequences: int) -> float | None:
        is_held = sequences * CONTEXT_TOKENS <= profile.kv_cache_tokens
        return step_duration_s(profile, decode_contexts=(CONTEXT_TOKENS,) * sequences) if is_held else None

    # A prompt in the chunks that the engine's budget allows.
    chunks = [
        (min(profile.max_batched_tokens, PROMPT_TOKENS - done), done)
        for done in range(0, PROMPT_TOKENS, profile.max_batched_tokens)
    ]
    prefill_s = sum(step_duration_s(profile, (chunk,)) for chunk in chunks)
    return {
        **hardware.model_dump(mode="json"),
        "decode_step_1_sequence_s": decode_step_s(1),
        "decode_step_64_sequences_s": decode_step_s(64),
        "prefill_tokens_per_s": PROMPT_TOKENS / prefill_s,
    }


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def _print_requests(check: "RequestsCheck") -> None:
    """One card's run: measured, predicted, error, and how the error moves."""
    from testbed.validate_requests import TARGET_PERCENT

    console.print(f"{check.requests} requests, Llama-3.1-8B on {check.card} ({check.engine})", style="bold")
    table = Table()
    for column in ("mean", "measured", "predicted", "error"):
        table.add_column(column, justify="left" if column == "mean" else "right")
    for name, error in check.errors_percent.items():
        measured, predicted = (getattr(side, f"{name}_s") for side in (check.measured, check.predicted))
        table.add_row(name.upper(), f"{measured:.4g} s", f"{predicted:.4g} s", f"{error:+.1f} %")
    console.print(table)
    console.print(f"fitted on: {check.fitted_on}; nothing on these requests. One host time for all cards, by rule.")
    for host_s, errors in check.by_host_s.items():
        console.print(f"  host {host_s * 1000:g} ms: {_signed(errors)}")
    console.print(f"  without mixed-step terms: {_signed(check.without_mixed_terms)}")
    if check.has_prefix_cache:
        console.print(f"  without the prefix cache that the run had: {_signed(check.without_prefix_cache)}")
    console.print(_verdict(check.is_within_target, f"{TARGET_PERCENT:g} % in each") + "\n")


def _print_silicon(check: "SiliconCheck", otherwise: Mapping[str, float]) -> None:
    """The runs with fixed concurrency, by card."""
    from testbed.validate_silicon import TARGET_PERCENT, mean_error_percent

    mean = mean_error_percent(check.compared)
    console.print(f"TPOT of {len(check.compared)} vLLM runs, Llama-3.1-70B in FP8", style="bold")
    table = Table("cards")
    table.add_column("mean error", justify="right")
    for name, error in check.by_cards().items():
        table.add_row(name, f"{error:.1f} %")
    table.add_row("all", f"{mean:.2f} %")
    console.print(table)
    console.print("fitted on: AIConfigurator's kernel tables; nothing on these runs. Mean absolute errors otherwise:")
    for name, error in otherwise.items():
        console.print(f"  {name}: {error:.1f} %")
    left_out = mean_error_percent(check.left_out)
    console.print(f"  left out: {len(check.left_out)} runs of Llama-3.1-8B in FP8 on the H200, {left_out:.0f} %")
    console.print(_verdict(check.is_within_target, f"{TARGET_PERCENT:g} %"))


def _signed(errors: Mapping[str, float]) -> str:
    return ", ".join(f"{name.upper()} {error:+.1f} %" for name, error in errors.items())


def _verdict(is_within: bool, target: str) -> str:
    return f"target {target}: {'met' if is_within else 'missed'}"
