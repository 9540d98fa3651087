"""The `burstscale` command: simulate, run, load, report, and what they need. Bad input: one line and exit code 2."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from loadgen.errors import InputError
from testbed.cli_bench import bench_app
from testbed.cli_forecast import forecast_app
from testbed.cli_hardware import hardware_command, validate_command
from testbed.cli_profile import profile_app
from testbed.cli_selection import (
    LimitSeconds,
    MaxOutputTokens,
    MaxPromptTokens,
    RateFactor,
    ServiceName,
    Speed,
    StartSeconds,
)
from testbed.cli_trace import trace_app
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
console = Console()

ExperimentFile = Annotated[Path, typer.Argument(help="Experiment file, such as configs/experiments/quickstart.yaml.")]
TracePath = Annotated[
    Path | None,
    typer.Option(
        "--trace", help="In place of the file's traffic: a trace, or a workload model (a YAML, a shipped name)."
    ),
]
PolicyName = Annotated[str | None, typer.Option("--policy", help="Another policy; see `burstscale policies`.")]
HardwareName = Annotated[
    str | None,
    typer.Option("--hardware", help="Another profile; see `burstscale hardware`. What a replica carries follows."),
]
Replicas = Annotated[
    int | None, typer.Option(min=1, help="A static fleet of so many: policy static, limits and start at this number.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")]
ServeFile = Annotated[Path | None, typer.Option("--serve", help="Another Serve config file.")]
OutFolder = Annotated[Path, typer.Option("-o", "--out", help="New folder for the results.")]


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
    )
    if has_models(read_yaml(experiment)):
        models = load_models_experiment(experiment, overrides)
        with TerminalProgress(console, "simulating") as progress:
            folder = simulate_models(models, out, progress.update)
    else:
        resolved = load_experiment(experiment, overrides)
        with TerminalProgress(console, "simulating") as progress:
            folder = simulate_experiment(resolved, out, progress.update)
    _show(folder)


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
) -> None:
    """Run an experiment live: start Ray and Serve on loopback where none runs, replay, collect, stop."""
    from testbed.config import Overrides, load_experiment
    from testbed.live import run_experiment

    selection = {"limit_s": limit_s, "rate_factor": rate_factor, "speed": speed}
    overrides = Overrides(traffic=trace, serve=serve, selection=selection, policy=policy, seed=seed)
    resolved = load_experiment(experiment, overrides)
    with TerminalProgress(console, "starting") as progress:
        folder = run_experiment(resolved, out, progress)
    _show(folder)


@app.command("load")
def load_command(
    traffic: Annotated[Path, typer.Argument(help="A trace, or a workload model (a YAML, a shipped name).")],
    url: Annotated[str, typer.Option(help="Server with an OpenAI-compatible API, such as http://127.0.0.1:8000.")],
    model: Annotated[str, typer.Option(help="Model to ask for.")],
    out: OutFolder,
    start_s: StartSeconds = None,
    limit_s: LimitSeconds = None,
    service: ServiceName = None,
    trace_model: Annotated[str | None, typer.Option(help="Only the requests for this model of the trace.")] = None,
    rate_factor: RateFactor = None,
    speed: Speed = None,
    max_prompt_tokens: MaxPromptTokens = None,
    max_output_tokens: MaxOutputTokens = None,
    deadline_s: Annotated[float, typer.Option(help="A request that is not done so long after its time failed.")] = 30.0,
    ttft_s: Annotated[float, typer.Option(help="Promised time to the first token, for the SLO attainment.")] = 2.0,
    tpot_s: Annotated[float, typer.Option(help="Promised time per further token.")] = 0.2,
    actors: Annotated[int, typer.Option(min=1, help="Ray actors that share the trace.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the prompts, and of a model's draws.")] = 0,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the API key.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Texts to send: a file of conversations, as ShareGPT's.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="The served model's: its folder or hub name.")] = None,
    self_test: Annotated[bool, typer.Option(help="First measure what this client can send in time.")] = True,
) -> None:
    """Replay a trace, open loop, against any OpenAI-compatible server."""
    from loadgen.prompts.source import PromptSettings
    from loadgen.selection import Selection, with_options
    from testbed.load import LoadSettings, load_server

    options = {
        "start_s": start_s,
        "limit_s": limit_s,
        "service": service,
        "model_name": trace_model,
        "rate_factor": rate_factor,
        "speed": speed,
        "max_prompt_tokens": max_prompt_tokens,
        "max_output_tokens": max_output_tokens,
    }
    selection = with_options(Selection(), options)
    texts = PromptSettings(source=prompts or "synthetic", tokenizer=tokenizer).from_folder(Path())
    settings = LoadSettings(
        url,
        model,
        deadline_s,
        ttft_s,
        tpot_s,
        selection,
        texts,
        actors=actors,
        seed=seed,
        api_key_env=api_key_env,
        self_test=self_test,
    )
    with TerminalProgress(console, "reading the trace") as progress:
        folder = load_server(traffic, settings, out, progress)
    _show(folder)


@app.command("report")
def report_command(
    results: Annotated[Path, typer.Argument(help="Results folder of a simulated or live run.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to write it; default: in the folder.")] = None,
) -> None:
    """Write the report of a results folder again, also of a run that was cut short."""
    from testbed.report.page import write_report
    from testbed.report.terminal import render_summary
    from testbed.results import REPORT, read_results

    found = read_results(results)
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


def _show(folder: Path) -> None:
    """Print the summary of a finished run and where its report is."""
    from testbed.report.terminal import render_summary
    from testbed.results import REPORT, read_results

    console.print(render_summary(read_results(folder)))
    console.print(f"report: {folder / REPORT}", soft_wrap=True)


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    try:
        app()
    except InputError as error:
        print(f"burstscale: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
