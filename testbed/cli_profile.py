"""`burstscale profile`: hardware profiles from measured tables."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadgen.errors import InputError

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
        errors = hardware.fit_error_percent
        assert errors is not None
        mixed = "not measured" if errors.mixed is None else f"{errors.mixed:.1f} %"
        console.print(
            f"{path}: error prefill {errors.prefill:.1f} %, decode {errors.decode:.1f} %, mixed {mixed}", soft_wrap=True
        )
