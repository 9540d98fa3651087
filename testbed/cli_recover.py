"""`burstscale recover`: completes the results folder of a run that was killed."""

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli_run import show_run


def recover_command(
    results: Annotated[Path, typer.Argument(help="Results folder of a `load` or `run` that was killed.")],
) -> None:
    """Complete the folder of a run that was killed, from what it had written: records, summary, report."""
    from testbed.recover import recover_run

    recover_run(results)
    show_run(results)
