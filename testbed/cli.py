"""The `burstscale` command: simulate, run, load, report, and what they need. Bad input: one line and exit code 2."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from loadgen.errors import InputError
from testbed.cli_bench import bench_app
from testbed.cli_export import Exports, export_beside, export_command
from testbed.cli_forecast import forecast_app
from testbed.cli_hardware import hardware_command, validate_command
from testbed.cli_load import load_command
from testbed.cli_profile import profile_app
from testbed.cli_recover import recover_command
from testbed.cli_run import OutFolder, console, show_run
from testbed.cli_selection import TRAFFIC, LimitSeconds, RateFactor, Speed
from testbed.cli_trace import trace_app
from testbed.interruption import ends_in_order
from testbed.progress import TerminalProgress

app = typer.Typer(
    name="burstscale",
    help="Elastic LLM serving and autoscaling testbed: replay real traffic, compare policies, count the GPUs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(trace_app)
app.add_typer(forecast_app)
app.add_typer(bench_app)
app.add_typer(profile_app)
app.command("hardware")(hardware_command)
app.command("validate")(validate_command)
app.command("load")(load_command)
app.command("export")(export_command)
app.command("recover")(recover_command)

ExperimentFile = Annotated[Path, typer.Argument(help="Experiment file, such as configs/experiments/quickstart.yaml.")]
FLEET = "Which fleet"
TracePath = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        help="In place of the file's traffic: a trace, or a workload model (a YAML, a shipped name).",
        rich_help_panel=TRAFFIC,
    ),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of everything random.", rich_help_panel=TRAFFIC)]
ServeFile = Annotated[Path | None, typer.Option("--serve", help="Another Serve config file.", rich_help_panel=FLEET)]
PolicyName = Annotated[
    str | None, typer.Option("--policy", help="Another policy; see `burstscale policies`.", rich_help_panel=FLEET)
]
HardwareName = Annotated[
    str | None,
    typer.Option(
        "--hardware",
        help="Another profile; see `burstscale hardware`. What a replica carries follows.",
        rich_help_panel=FLEET,
    ),
]
Replicas = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="A static fleet of so many: policy static, limits and start at this number.",
        rich_help_panel=FLEET,
    ),
]
Check = Annotated[
    bool, typer.Option("--check", help="Hold requests, tokens and KV blocks against each other at each step; slow.")
]


@app.command("simulate")
def simulate_command(
    experiment: ExperimentFile,
    out: OutFolder,
    trace: TracePath = None,
    limit_s: LimitSeconds = None,
    rate_factor: RateFactor = None,
    speed: Speed = None,
    hardware: HardwareName = None,
    policy: PolicyName = None,
    replicas: Replicas = None,
    seed: Seed = None,
    serve: ServeFile = None,
    check: Check = False,
) -> None:
    """Run an experiment in the fleet simulator: no GPU, no server, months in minutes."""
    from loadgen.strict_config import read_yaml
    from testbed.config import Overrides, has_models, load_experiment
    from testbed.models_config import load_models_experiment
    from testbed.simulate import simulate_experiment
    from testbed.simulate_models import simulate_models

    selection = {"limit_s": limit_s, "rate_factor": rate_factor, "speed": speed}
    overrides = Overrides(
        traffic=trace,
        serve=serve,
        selection=selection,
        hardware=hardware,
        policy=policy,
        replicas=replicas,
        seed=seed,
        check_invariants=check,
    )
    if has_models(read_yaml(experiment)):
        models = load_models_experiment(experiment, overrides)
        with TerminalProgress(console, "simulating") as progress:
            folder = simulate_models(models, out, progress.update)
    else:
        resolved = load_experiment(experiment, overrides)
        with TerminalProgress(console, "simulating") as progress:
            folder = simulate_experiment(resolved, out, progress.update)
    show_run(folder)


@app.command("run")
def run_command(
    experiment: ExperimentFile,
    out: OutFolder,
    trace: TracePath = None,
    limit_s: LimitSeconds = None,
    rate_factor: RateFactor = None,
    speed: Speed = None,
    policy: PolicyName = None,
    seed: Seed = None,
    serve: ServeFile = None,
    exports: Exports = None,
) -> None:
    """Run an experiment live: start Ray and Serve on loopback where none runs, replay, collect, stop."""
    from testbed.config import Overrides, load_experiment
    from testbed.live import run_experiment

    selection = {"limit_s": limit_s, "rate_factor": rate_factor, "speed": speed}
    overrides = Overrides(traffic=trace, serve=serve, selection=selection, policy=policy, seed=seed)
    resolved = load_experiment(experiment, overrides)
    with TerminalProgress(console, "starting") as progress:
        folder = run_experiment(resolved, out, progress)
    show_run(folder)
    export_beside(folder, exports)


@app.command("report")
def report_command(
    results: Annotated[Path, typer.Argument(help="Results folder of a simulated or live run.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to write it; default: in the folder.")] = None,
    window_s: Annotated[
        float | None, typer.Option(min=1, help="Windows of the figures over time; default: as the run has them.")
    ] = None,
) -> None:
    """Write the report of a results folder again, also of a run that was cut short."""
    from testbed.models_summary import with_windows
    from testbed.report.page import write_report
    from testbed.report.terminal import render_summary
    from testbed.results import REPORT, read_results
    from testbed.run_lock import check_ended

    found = check_ended(read_results(results))
    if window_s is not None:
        found = with_windows(found, window_s)
    page = write_report(found, out or results / REPORT)
    console.print(render_summary(found))
    console.print(f"report: {page}", soft_wrap=True)


@app.command("policies")
def policies_command() -> None:
    """List the policies with their parameters."""
    from autoscaler.policies import describe_policies

    table = Table(title="policies", title_justify="left", caption_justify="left")
    table.caption = "horizon_s, and the replicas of a static fleet, come from the fleet's configuration where not given"
    for column in ("name", "what it does", "parameters"):
        table.add_column(column, overflow="fold")
    for row in describe_policies():
        table.add_row(row.name, row.summary, "\n".join(str(parameter) for parameter in row.parameters))
    console.print(table)


@app.command("tiny-model")
def tiny_model_command(folder: Annotated[Path, typer.Argument(help="New folder for the model.")]) -> None:
    """Make a tiny model (config and tokenizer, no weights), so that real vLLM runs on a CPU without a download."""
    from testbed.tiny_model import make_tiny_model

    make_tiny_model(folder)
    console.print(f"tiny model: {folder} (weights are made up by vLLM: load_format dummy)", soft_wrap=True)


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    with ends_in_order():
        try:
            app()
        except InputError as error:
            print(f"burstscale: {error}", file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
