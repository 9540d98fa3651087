"""`burstscale bench`: speeds and closeness, measured on the machine it runs on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from testbed.bench_target import Target, verdicts
from testbed.cli_run import AsJson
from testbed.progress import TerminalProgress

bench_app = typer.Typer(name="bench", help="Measure this machine and this program.", no_args_is_help=True)
console = Console()
progress_console = Console(stderr=True)
DEFAULT_HARDWARE = "a100-llama-2-13b"


@bench_app.callback()
def bench() -> None:
    """Measure this machine and this program."""


def _table(title: str, targets: Mapping[str, Target], figures: object, *, has_targets: bool) -> Table:
    """Each figure beside its target."""
    table = Table("", "measured", "target", "", title=title, title_justify="left")
    for verdict in verdicts(targets, figures):
        outcome = ("met" if verdict.is_met else "missed") if has_targets else ""
        table.add_row(verdict.what, verdict.measured, verdict.target, outcome)
    return table


@bench_app.command("traces")
def traces_command(
    rows: Annotated[int, typer.Option(min=100, help="Rows of the file; BurstGPT_1 has 1.43 million.")] = 1_430_000,
    as_json: AsJson = False,
) -> None:
    """Measure how fast a BurstGPT-like file is read and a trace is drawn, beside a bare read by pyarrow."""
    from testbed.bench_traces import BURSTGPT_1_ROWS, TARGETS, bench_traces

    with TerminalProgress(progress_console, "starting") as progress:
        benchmark = bench_traces(rows, progress.stage)
    if as_json:
        print(json.dumps(benchmark.as_json(), indent=2))
    else:
        console.print(_table(f"traces of {rows:,} rows", TARGETS, benchmark, has_targets=rows == BURSTGPT_1_ROWS))
        console.print(benchmark.conclusion(), soft_wrap=True)


@bench_app.command("simulator")
def simulator_command(
    scaling: Annotated[bool, typer.Option(help="Also how time grows with requests and replicas (minutes).")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw that growth as a page; its figures go beside it as JSON.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast the fleet simulator is: a million requests on 16 replicas, and two months of a policy."""
    from testbed.bench_simulator import TARGETS, bench_simulator
    from testbed.scaling_plot import scaling_sentence, write_scaling_page

    with TerminalProgress(progress_console, "starting") as progress:
        benchmark = bench_simulator(progress.stage, scaling=scaling or plot is not None)
    if plot is not None:
        write_scaling_page(benchmark.by_requests, benchmark.by_replicas, plot)
    if as_json:
        print(json.dumps(benchmark.as_json(), indent=2))
        return
    console.print(_table("simulator, one thread", TARGETS, benchmark, has_targets=True))
    for title, speeds in (("with the requests", benchmark.by_requests), ("with the replicas", benchmark.by_replicas)):
        if speeds:
            table = Table("requests", "replicas", "s", "requests/s", title=title, title_justify="left")
            for speed in speeds:
                row = (f"{speed.requests:,}", f"{speed.replicas}", f"{speed.seconds:.2f}")
                table.add_row(*row, f"{speed.requests_per_s:,.0f}")
            console.print(table)
    if benchmark.by_requests:
        console.print(scaling_sentence(benchmark.by_requests, benchmark.by_replicas), soft_wrap=True)
    console.print(benchmark.conclusion(), soft_wrap=True)


@bench_app.command("routing")
def routing_command(
    replicas: Annotated[int, typer.Option(min=1, help="Of the fleet, whose size stays.")] = 12,
    hardware: Annotated[
        str, typer.Option(help="Of each replica; `burstscale hardware` lists them.")
    ] = "a100-llama-2-13b",
    trace: Annotated[Path | None, typer.Option(help="Serve this trace, not bursty requests that are drawn.")] = None,
    speed: Annotated[float, typer.Option(min=0.001, help="Times as fast as the trace was recorded.")] = 1.0,
    rate: Annotated[float, typer.Option(min=0.001, help="Drawn requests per second and replica.")] = 3.2,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the requests, and of the router.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure what the choice of the replica is worth: the same requests under each routing."""
    from loadgen.formats.detect import read_trace
    from testbed.bench_routing import RoutingSetup, bench_routing, outcomes_as_json, routing_table

    with TerminalProgress(progress_console, "starting") as progress:
        served = None if trace is None else read_trace(trace).sped_up(speed)
        outcomes = bench_routing(RoutingSetup(hardware, replicas, served, rate, seeds), progress.stage)
    if as_json:
        print(json.dumps(outcomes_as_json(outcomes), indent=2))
        return
    name = f"bursty requests, {replicas * rate:g} a second" if served is None else served.name
    console.print(routing_table(outcomes, f"{name}, on {replicas} replicas of {hardware}"))


@bench_app.command("loadgen")
def loadgen_command(
    rate: Annotated[list[float] | None, typer.Option(min=1, help="Requests per second; may be given again.")] = None,
    duration_s: Annotated[float, typer.Option(min=0.5, help="Of the plan at each rate.")] = 20.0,
    peers: Annotated[bool, typer.Option(help="Also other load generators that are installed.")] = True,
    soak: Annotated[
        int | None, typer.Option(min=1000, help="Instead: memory over so many requests, as 100000.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how punctually requests are sent and what each costs, beside a bare socket and other tools."""
    from testbed.bench_loadgen import DEFAULT_RATES_PER_S, TARGETS, bench_loadgen
    from testbed.soak_loadgen import soak_loadgen

    if soak is not None:
        with TerminalProgress(progress_console, f"sending {soak:,} requests") as progress:
            soaked = soak_loadgen(soak, progress.update)
        print(json.dumps(soaked.as_json(), indent=2)) if as_json else console.print(soaked.sentence(), soft_wrap=True)
        return
    with TerminalProgress(progress_console, "starting") as progress:
        benchmark = bench_loadgen(rate or DEFAULT_RATES_PER_S, duration_s, progress.stage, with_peers=peers)
    if as_json:
        print(json.dumps(benchmark.as_json(), indent=2))
        return
    columns = ("plan/s", "seen/s", "lag p50 ms", "p99 ms", "CV plan", "CV seen", "CPU ms")
    table = Table(
        Column("client", no_wrap=True),
        *(Column(name, justify="right") for name in columns),
        title="20 chunks a request, first token after 50 ms, then every 10 ms; lag as the server saw it; CPU a request",
        title_justify="left",
    )
    for row in benchmark.figures:
        rates, lags = (row.planned_per_s, row.achieved_per_s), (row.lag_p50_ms, row.lag_p99_ms)
        values = (*rates, *lags, row.planned_cv, row.arrived_cv, row.cpu_ms_per_request)
        table.add_row(row.client, *("-" if value is None else f"{value:.2f}" for value in values))
    console.print(table)
    if benchmark.has_targets:
        console.print(_table("load generator", TARGETS, benchmark, has_targets=True))
    console.print(benchmark.conclusion(), soft_wrap=True)


@bench_app.command("scheduling")
def scheduling_command(
    hardware: Annotated[
        str, typer.Option(help="A profile of configs/hardware, or a path to one.")
    ] = "rtx4090-llama-3-8b",
    requests_per_s: Annotated[float, typer.Option(min=0.01, help="Mean rate of both services together.")] = 3.5,
    seeds: Annotated[int, typer.Option(min=2, help="Hours of traffic that are drawn.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the change from the first case.")] = False,
) -> None:
    """Measure what an engine's order of requests, swapping and a watermark change on one replica in bursts."""
    from testbed.bench_scheduling import FIGURES, bench_scheduling

    with TerminalProgress(progress_console, "starting") as progress:
        cases = bench_scheduling(hardware, requests_per_s, seeds, progress.stage)
    if as_json:
        print(json.dumps([case.as_json() for case in cases], indent=2))
        return
    console.print(f"{hardware}, {requests_per_s:g} requests/s, {seeds} hours")
    for shown in (list(FIGURES)[:4], list(FIGURES)[4:]):
        table = Table("", *(FIGURES[name] for name in shown))
        for case in cases:
            table.add_row(case.name, *(f"{case.mean[name]:.2f}" for name in shown))
        console.print(table)


@bench_app.command("burstgpt-model")
def burstgpt_model_command(
    counts: Annotated[
        Path | None, typer.Option(help="Real requests per hour, a CSV with day,hour,conversation,api.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Draws of the model.")] = 20,
    hold_out: Annotated[bool, typer.Option(help="Also fit days 0-29 anew and look at the days after.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure how close the model of BurstGPT is to what is known of BurstGPT."""
    from testbed.bench_burstgpt_model import bench_burstgpt_model, comparison_table, conclusion

    with TerminalProgress(progress_console, "drawing") as progress:

        def report(done: int, total: int, what: str) -> None:
            progress.stage(what)
            progress.update(done, total)

        comparisons = bench_burstgpt_model(counts, seeds, hold_out, report)
    if as_json:
        print(json.dumps({comparison.title: comparison.as_json() for comparison in comparisons}, indent=2))
        return
    for comparison in comparisons:
        console.print(comparison_table(comparison))
    console.print(conclusion(comparisons, seeds), soft_wrap=True)
