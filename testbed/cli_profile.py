"""`burstscale profile`: hardware profiles from measured tables, or measured on a running engine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console

from loadgen.errors import InputError

if TYPE_CHECKING:
    from autoscaler.simulator.cost_model import HardwareFile

profile_app = typer.Typer(name="profile", help="Make hardware profiles.", no_args_is_help=True)
console = Console()


@profile_app.command("fit")
def fit_command(
    tables: Annotated[Path, typer.Option(help="Folder with the measured tables (aiconfigurator, llmservingsim, …).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The profile's YAML; with --all, the folder for them.")],
    gpu: Annotated[str | None, typer.Option(help="Card, such as a100; see `burstscale hardware`.")] = None,
    model: Annotated[str | None, typer.Option(help="Model, such as llama-2-13b.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every profile that is shipped.")] = False,
) -> None:
    """Sum measured kernels over the layers of a step, fit the cost model to the sums, write the profile."""
    from autoscaler.profile_fit.catalogue import find_shipped, profile_name, shipped
    from autoscaler.profile_fit.profile_file import fit_profile, hardware_file, mixed_ratios, write_hardware

    if every == (gpu is not None or model is not None) or (gpu is None) != (model is None):
        raise InputError("profile fit: give --gpu and --model, or --all")
    wanted = list(shipped()) if every else [find_shipped(gpu or "", model or "")]
    ratios = mixed_ratios(tables)
    for card, shape in wanted:
        hardware = hardware_file(card, shape, fit_profile(card, shape, tables), ratios)
        path = out / f"{profile_name(card, shape)}.yaml" if every else out
        path.parent.mkdir(parents=True, exist_ok=True)
        write_hardware(hardware, path)
        _print_fit(path, hardware)


@profile_app.command("measure")
def measure_command(
    out: Annotated[Path, typer.Option("-o", "--out", help="The profile's YAML.")],
    engine_arguments: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="vLLM's arguments, with --engine.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="Model (folder or hub id) to start vLLM with.")] = None,
    url: Annotated[
        str | None, typer.Option(help="A vLLM server that runs and is idle, such as http://host:8000.")
    ] = None,
    step_log: Annotated[
        Path | None, typer.Option(help="With --url: the file that the server's step-log scheduler writes.")
    ] = None,
    max_sequences: Annotated[int | None, typer.Option(min=1, help="With --url: the server's max_num_seqs.")] = None,
    max_batched_tokens: Annotated[
        int | None, typer.Option(min=1, help="With --url: the server's max_num_batched_tokens.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="What to call the device; default: as vLLM does.")] = "",
    seconds: Annotated[float, typer.Option(min=10, help="How long to measure.")] = 90.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the prompts and of the order of the load.")] = 0,
) -> None:
    """Drive a real vLLM with prompts and batches of many sizes, fit the cost model to its steps, write the profile.

    `--engine MODEL KEY=VALUE...` starts vLLM here. `--url` takes a server: with `--step-log` if it was started with
    BURSTSCALE_STEP_LOG=FILE and `--scheduler-cls serve_app.engines.step_log.AsyncStepLogScheduler` (StepLogScheduler
    where it schedules synchronously, as on CPUs), else by when tokens come over HTTP, which tells less.
    """
    from autoscaler.profile_fit.profile_file import write_hardware
    from testbed.measure_profile import Measuring, ToldLimits, measure_served_engine, measure_started_engine

    if (engine is None) == (url is None):
        raise InputError("profile measure: give --engine or --url, one of them")
    if (engine is None and engine_arguments) or (engine is not None and step_log is not None):
        raise InputError("profile measure: KEY=VALUE goes with --engine, --step-log with --url")
    measuring = Measuring(out.stem, gpu, seconds, seed)
    console.print(f"measuring for about {seconds:g} s once the engine is up")
    if engine is not None:
        hardware = measure_started_engine(engine, _engine_kwargs(engine_arguments or []), measuring)
    else:
        told = ToldLimits(max_sequences, max_batched_tokens)
        hardware = measure_served_engine(url or "", step_log, told, measuring)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_hardware(hardware, out, "profile measure")
    _print_fit(out, hardware)


def _engine_kwargs(arguments: list[str]) -> dict[str, Any]:
    """KEY=VALUE, the values read as YAML reads them."""
    found = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not key or not equals:
            raise InputError(f"profile measure: '{argument}' is no KEY=VALUE, such as max_num_seqs=64")
        found[key.removeprefix("--").replace("-", "_")] = yaml.safe_load(value)
    return found


def _print_fit(path: Path, hardware: "HardwareFile") -> None:
    """Where a profile was written and how well it follows its steps."""
    errors = hardware.fit_error_percent
    assert errors is not None
    mixed = "not measured" if errors.mixed is None else f"{errors.mixed:.1f} %"
    console.print(
        f"{path}: error prefill {errors.prefill:.1f} %, decode {errors.decode:.1f} %, mixed {mixed}", soft_wrap=True
    )
