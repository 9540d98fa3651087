"""`burstscale trace fit-hourly`: arrival parameters from requests per hour."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def fit_hourly_command(
    counts: Annotated[Path, typer.Argument(help="Requests per hour, a CSV with day,hour,conversation,api.")],
) -> None:
    """Print the arrivals of the model of BurstGPT, fitted to requests per hour (takes a minute)."""
    import yaml

    from loadgen.fit_burstgpt import fit_hourly
    from loadgen.rate_series import read_rate_series

    series = read_rate_series(counts)
    with Console(stderr=True).status("fitting") as status:
        fitted = fit_hourly(series, status.update)
    print(yaml.safe_dump(fitted.as_plain(), sort_keys=False, default_flow_style=None, width=110), end="")
