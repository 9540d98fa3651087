"""`burstscale trace`: fetch, describe, make, fit, convert."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Column, Table

from testbed.cli_fetch import fetch_command
from testbed.cli_fit_hourly import fit_hourly_command
from testbed.cli_reading import AsService, FormatName, OnErrorName, TraceFiles, read_files
from testbed.cli_run import AsJson
from testbed.cli_selection import (
    LimitSeconds,
    MaxOutputTokens,
    MaxPromptTokens,
    ModelName,
    RateFactor,
    ServiceName,
    Speed,
    StartSeconds,
)

trace_app = typer.Typer(name="trace", help="Fetch, describe, make, fit and convert traces.", no_args_is_help=True)
trace_app.command("fetch")(fetch_command)
trace_app.command("fit-hourly")(fit_hourly_command)
console = Console()
# Nothing of it reaches a file or a pipe that takes the output.
_progress = Console(stderr=True)

OutFile = Annotated[Path, typer.Option("-o", "--out", help="New Parquet file.")]


@trace_app.command("describe")
def describe_command(
    paths: TraceFiles,
    format: FormatName = "auto",
    as_service: AsService = None,
    on_error: OnErrorName = "stop",
    start_s: StartSeconds = None,
    limit_s: LimitSeconds = None,
    service: ServiceName = None,
    model: ModelName = None,
    as_json: AsJson = False,
    html: Annotated[
        Path | None, typer.Option(help="New file for a page with every figure as numbers and plots.")
    ] = None,
) -> None:
    """Say what is in a trace, or in a part of it: requests, tokens, failures, rates, burstiness."""
    from loadgen.formats.detect import holds_rates
    from loadgen.selection import Selection, select, with_options
    from loadgen.statistics.describe import describe
    from testbed.report.trace_page import name_source, write_trace_page
    from testbed.trace_table import description_table

    if html is not None:
        _check_new(html, "--html")
    options = {"start_s": start_s, "limit_s": limit_s, "service": service, "model_name": model}
    selection = with_options(Selection(), options)
    if format == "auto" and len(paths) == 1 and holds_rates(paths[0]):
        _describe_rates(paths[0], as_json=as_json, is_whole=html is None and selection == Selection())
        return
    with _progress.status("reading the trace") as status:
        trace = select(read_files(paths, format, as_service, on_error), selection, np.random.default_rng(0))
        status.update(f"measuring {len(trace):,} requests")
        description = describe(trace)
        if html is not None:
            status.update("drawing the page")
            write_trace_page(description, html, name_source(paths, options))
    if as_json:
        print(description.json_text())
    else:
        console.print(description_table(description))
    if html is not None:
        (_progress if as_json else console).print(f"page: {html}", soft_wrap=True, highlight=False)


def _describe_rates(path: Path, *, as_json: bool, is_whole: bool) -> None:
    """Describe a series of counts, of which there is less to say than of requests."""
    from loadgen.errors import InputError
    from loadgen.rate_series import read_rate_series
    from loadgen.statistics.describe_rates import describe_rates
    from testbed.trace_table import rates_table

    if not is_whole:
        raise InputError(f"{path}: holds rates, not requests; it is described as a whole, on the terminal or as --json")
    description = describe_rates(read_rate_series(path))
    if as_json:
        print(description.json_text())
    else:
        console.print(rates_table(description))


@trace_app.command("make")
def make_command(
    model: Annotated[str, typer.Argument(help="A workload model's YAML, or a name that `trace models` lists.")],
    out: OutFile,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
) -> None:
    """Draw a trace from a workload model."""
    from loadgen.shipped_workloads import find_workload
    from loadgen.trace_file import save_trace
    from loadgen.workload import draw_trace, read_workload_model

    _check_new(out)
    trace = draw_trace(read_workload_model(find_workload(model)), np.random.default_rng(seed))
    save_trace(trace, out)
    console.print(f"{out}: {len(trace)} requests in {trace.duration_s:g} s (seed {seed})", soft_wrap=True)


@trace_app.command("models")
def models_command() -> None:
    """List the workload models that are shipped, for `trace make`."""
    from loadgen.shipped_workloads import shipped_workloads, workload_summary
    from loadgen.workload import expected_requests, read_workload_model

    columns = (Column("name", no_wrap=True), "duration", Column("requests", no_wrap=True), "what it is")
    table = Table(*columns, title="workload models", title_justify="left")
    for name, path in shipped_workloads().items():
        model = read_workload_model(path)
        lasts = f"{model.duration_s / 3600:,.1f} h" if model.duration_s >= 3600 else f"{model.duration_s:,.0f} s"
        table.add_row(name, lasts, f"about {expected_requests(model):,.0f}", workload_summary(path))
    console.print(table)


@trace_app.command("fit")
def fit_command(
    paths: TraceFiles,
    out: Annotated[Path, typer.Option("-o", "--out", help="New YAML file.")],
    window_s: Annotated[
        float | None,
        typer.Option(help="Fit rate and burstiness anew in windows of this length; by default 20 minutes."),
    ] = None,
    format: FormatName = "auto",
    as_service: AsService = None,
    on_error: OnErrorName = "stop",
) -> None:
    """Fit a workload model to a trace, for `trace make`: a stream per service, Gamma arrivals per window, lengths."""
    from loadgen.fit_workload import fit_workload, workload_yaml
    from loadgen.statistics.gaps import FIT_WINDOW_S
    from loadgen.workload import expected_requests

    _check_new(out)
    trace = read_files(paths, format, as_service, on_error)
    window_s = FIT_WINDOW_S if window_s is None else window_s
    model = fit_workload(trace, window_s)
    comment = f"Fitted to {', '.join(path.name for path in paths)} in windows of {window_s:g} s."
    out.write_text(workload_yaml(model, comment), encoding="utf-8")
    told = f"about {expected_requests(model):,.0f} requests in {model.duration_s:g} s, {len(trace):,} in the trace"
    console.print(f"{out}: {told}", soft_wrap=True)


@trace_app.command("convert")
def convert_command(
    paths: TraceFiles,
    out: OutFile,
    format: FormatName = "auto",
    as_service: AsService = None,
    on_error: OnErrorName = "stop",
    start_s: StartSeconds = None,
    limit_s: LimitSeconds = None,
    service: ServiceName = None,
    model: ModelName = None,
    rate_factor: RateFactor = None,
    speed: Speed = None,
    max_prompt_tokens: MaxPromptTokens = None,
    max_output_tokens: MaxOutputTokens = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what --rate-factor draws.")] = 0,
) -> None:
    """Turn traces of any known format, or a part of them, into the Parquet form that loads fastest."""
    from loadgen.selection import Selection, select, with_options
    from loadgen.trace_file import save_trace

    _check_new(out)
    options = {
        "start_s": start_s,
        "limit_s": limit_s,
        "service": service,
        "model_name": model,
        "rate_factor": rate_factor,
        "speed": speed,
        "max_prompt_tokens": max_prompt_tokens,
        "max_output_tokens": max_output_tokens,
    }
    selection = with_options(Selection(), options)
    trace = select(read_files(paths, format, as_service, on_error), selection, np.random.default_rng(seed))
    save_trace(trace, out)
    console.print(f"{out}: {len(trace)} requests in {trace.duration_s:g} s", soft_wrap=True)


def _check_new(out: Path, option: str = "-o") -> None:
    """Refuse to overwrite a file, and a folder that does not exist, before any work is done."""
    from loadgen.errors import InputError

    if out.exists():
        raise InputError(f"{out}: exists already; give {option} a new file")
    if not out.parent.is_dir():
        raise InputError(f"{out}: its folder does not exist; make it first or give another {option}")
