"""`burstscale forecast`: backtest a forecaster on a trace."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from testbed.cli_run import AsJson

if TYPE_CHECKING:
    from forecasting.backtest import BacktestRow, ServiceBacktest

forecast_app = typer.Typer(name="forecast", help="Judge forecasters.", no_args_is_help=True)
console = Console()


@forecast_app.callback()
def forecast_group() -> None:
    """Judge forecasters on a trace's past."""


@forecast_app.command("backtest")
def backtest_command(
    trace: Annotated[Path, typer.Option(help="A trace in any known format.")],
    forecaster: Annotated[str, typer.Option(help="last-value or seasonal.")] = "seasonal",
    bin_s: Annotated[float, typer.Option(help="Length of a bin.")] = 60.0,
    horizon_s: Annotated[float, typer.Option(help="How far ahead; about the cold start.")] = 300.0,
    service: Annotated[str | None, typer.Option(help="conversation or api; default: each that has requests.")] = None,
    quantity: Annotated[str, typer.Option(help="requests, prompt_tokens or output_tokens.")] = "requests",
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the forecaster as name=value.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap intervals.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Forecast from every bin of the second half of a trace, knowing only what came before it, and score it."""
    from forecasting.backtest import backtest_trace
    from loadgen.formats.detect import read_trace

    results = backtest_trace(
        read_trace(trace),
        forecaster,
        bin_s=bin_s,
        horizon_s=horizon_s,
        rng=np.random.default_rng(seed),
        service=service,
        quantity=quantity,
        params=_parameters(param or []),
    )
    if as_json:
        print(json.dumps([result.as_json() for result in results], indent=2, allow_nan=False))
        return
    for result in results:
        console.print(_table(result))


def _parameters(pairs: list[str]) -> dict[str, object]:
    """Turn 'name=value' into parameters; a value is read as YAML reads it."""
    import yaml

    from loadgen.errors import InputError

    parameters: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--param {pair}: want name=value")
        parameters[name] = yaml.safe_load(value)
    return parameters


def _table(result: "ServiceBacktest") -> Table:
    """The scores of one service, a line per lead and level."""
    title = f"{result.forecaster} on {result.quantity} of {result.service}, bins of {result.result.bin_s:g} s"
    table = Table(title=title, title_justify="left")
    for column in ("lead", "quantile", "coverage", "pinball loss", "gain over last-value", "WAPE of the median"):
        table.add_column(column, justify="right")
    for row in result.rows():
        table.add_row(
            f"{row.lead_s:g} s",
            f"{row.level:g}",
            f"{row.coverage:.3f}",
            f"{row.pinball:.4g}",
            _gain(row),
            "" if row.wape is None else f"{row.wape:.3f}",
        )
    table.caption = f"{len(result.result.origins)} forecasts; a calibrated quantile covers its own level"
    return table


def _gain(row: "BacktestRow") -> str:
    """The gain over the reference with its 95 % interval."""
    if row.gain is None:
        return ""
    return f"{row.gain.value:+.1%} [{row.gain.low:+.1%}, {row.gain.high:+.1%}]"
