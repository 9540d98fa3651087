"""What `burstscale validate --vllm` and `--emulated` print: engines on this machine against predictions of them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from testbed.latency_errors import VllmCheck
    from testbed.validate_emulated import EmulatedCheck

console = Console()
said = Console(stderr=True)  # what is going on, beside the result


def validate_vllm(as_json: bool) -> None:
    """Measure, fit, predict real vLLM here, and print how far off that is."""
    from testbed.validate_vllm import check_vllm

    said.print("starting vLLM, then measuring two loads in turns: about four minutes on an idle machine")
    check = check_vllm()
    if as_json:
        print(json.dumps(check.as_json(), indent=2))
    else:
        _print_vllm(check)


def validate_emulated(minutes: float, trace: Path | None, as_json: bool) -> None:
    """Run the emulated engine in real time and print how far it is from its simulation."""
    from testbed.validate_emulated import TRAFFIC, check_emulated

    said.print(f"playing {minutes:g} minutes in real time")
    check = check_emulated(minutes, trace or TRAFFIC)
    if as_json:
        print(json.dumps(check.as_json(), indent=2))
    else:
        _print_emulated(check)


def _print_vllm(check: "VllmCheck") -> None:
    """The median over the repeats, and each repeat."""
    from testbed.latency_errors import FITTED_ON, HELD_OUT, TARGET_PERCENT

    console.print(check.engine, style="bold", soft_wrap=True)
    table = Table()
    for column in ("", "measured", "predicted", "error", "logged steps", "same load again"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in check.errors_percent.items():
        for of, error in row.items():
            measured, predicted = check.median_s("measured")[name][of], check.median_s("predicted")[name][of]
            spread = check.spread_percent[name][of]
            logged = check.logged_errors_percent[name][of]
            table.add_row(
                f"{name.upper()} {of}",
                f"{measured:.4g} s",
                f"{predicted:.4g} s",
                f"{error:+.1f} %",
                f"{logged:+.1f} %",
                f"{spread:.1f} %",
            )
    console.print(table)
    console.print(f"fitted on: {FITTED_ON}", soft_wrap=True)
    console.print(f"predicted: {check.requests} requests in {check.held_out_s:g} s, {HELD_OUT}", soft_wrap=True)
    console.print(
        f"medians of {len(check.repeats)} repeats; 'same load again': most less least of these, of the median"
    )
    for repeat in check.repeats:
        errors = ", ".join(
            f"{name.upper()} {row['mean']:+.1f} / {row['p90']:+.1f} %" for name, row in repeat.errors_percent.items()
        )
        steps = repeat.step_error_percent["sum"]
        console.print(f"  mean / p90: {errors}; steps {steps:+.1f} %; machine {repeat.disturbance:.2f}", soft_wrap=True)
    console.print(
        f"a request alone spends {check.outside_steps_s * 1000:.1f} ms outside the engine's steps: not predicted"
    )
    target = f"{TARGET_PERCENT['mean']:g} % of each mean, {TARGET_PERCENT['p90']:g} % of each p90"
    console.print(f"target {target}: {'met' if check.is_within_target else 'missed'}")


def _print_emulated(check: "EmulatedCheck") -> None:
    """Each quantile, on both clocks."""
    from testbed.validate_emulated import TARGET_PERCENT, TARGET_S

    title = f"{check.requests} requests of {check.traffic} in {check.duration_s:g} s, one {check.hardware}"
    console.print(title, style="bold", soft_wrap=True)
    table = Table()
    for column in ("", "simulated", "emulated", "difference", ""):
        table.add_column(column, justify="right")
    for name, row in check.quantiles.items():
        for level, one in row.items():
            table.add_row(
                f"{name.upper()} p{100 * float(level):g}",
                f"{one.simulated_s:.4f} s",
                f"{one.emulated_s:.4f} s",
                f"{one.difference_s * 1000:+.1f} ms",
                f"{one.difference_percent:+.1f} %",
            )
    console.print(table)
    target = f"{TARGET_PERCENT:g} % or {TARGET_S * 1000:g} ms of each"
    console.print(f"target {target}: {'met' if check.is_within_target else 'missed'}")
