"""What commands share: where a results folder goes, what is printed of it, and the option for JSON."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()
OutFolder = Annotated[Path, typer.Option("-o", "--out", help="New folder for the results.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def show_run(folder: Path) -> None:
    """Print the summary of a finished run and where its report is."""
    from testbed.report.terminal import render_summary
    from testbed.results import REPORT, read_results

    console.print(render_summary(read_results(folder)))
    console.print(f"report: {folder / REPORT}", soft_wrap=True)
