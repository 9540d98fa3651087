"""`burstscale trace fetch`: download published traces."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

if TYPE_CHECKING:
    from loadgen.datasets import Dataset, DatasetFile

console = Console()


def fetch_command(
    dataset: Annotated[str | None, typer.Argument(help="burstgpt, azure2023, azure2024 or mooncake.")] = None,
    file: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this file of it; may be given more than once.")
    ] = None,
    list_files: Annotated[bool, typer.Option("--list", help="Show the files; fetch nothing.")] = False,
) -> None:
    """Download a published trace, verify it, and keep it in the cache folder (BURSTSCALE_DATA)."""
    from loadgen.datasets import DATASETS, find_dataset
    from loadgen.errors import InputError
    from loadgen.fetch import data_folder

    if dataset is None and not list_files:
        raise InputError(f"no dataset is named; give one of {', '.join(DATASETS)}, or --list to see their files")
    chosen = list(DATASETS.values()) if dataset is None else [find_dataset(dataset)]
    if list_files:
        for each in chosen:
            _show_files(each)
        console.print(f"* = fetched unless --file names others; to {data_folder()}", soft_wrap=True, markup=False)
        return
    files = [chosen[0].file(name) for name in file or chosen[0].main]
    paths = [_fetch(chosen[0], each) for each in files]
    console.print(f"next: burstscale trace describe {shlex.quote(str(paths[0]))}", soft_wrap=True, markup=False)


def _show_files(dataset: "Dataset") -> None:
    """Print one dataset with its files."""
    console.print(f"[bold]{dataset.name}[/bold]: {dataset.about}", soft_wrap=True)
    console.print(f"  licence {dataset.licence}, from {dataset.page}", soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    for file in dataset.files:
        size = "size not known" if file.size_bytes is None else decimal(file.size_bytes)
        table.add_row("  *" if file.name in dataset.main else "", file.name, size)
    console.print(table)


def _fetch(dataset: "Dataset", file: "DatasetFile") -> Path:
    """Fetch one file under a progress bar, say where it is, and return that."""
    from loadgen.fetch import data_folder, fetch_file
    from testbed.progress import TerminalProgress

    with TerminalProgress(console, f"fetching {file.name}") as progress:

        def show(done_bytes: int, total_bytes: int | None) -> None:
            of_total = "" if total_bytes is None else f" of {decimal(total_bytes)}"
            progress.update(done_bytes, total_bytes or done_bytes or 1, f"{decimal(done_bytes)}{of_total}")

        fetched = fetch_file(file, data_folder() / dataset.name, show)
    check = "sha256 as published" if fetched.is_published else "no sha256 is published: noted, and checked from now on"
    was_here = "" if fetched.is_new else "was here already, "
    size = decimal(fetched.path.stat().st_size)
    said = f"{fetched.path}: {was_here}{size}, {check} ({dataset.licence})"
    console.print(said, soft_wrap=True, markup=False)
    return fetched.path
