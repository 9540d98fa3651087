"""`burstscale export`: a results folder in the formats of other load generators, for the tools that read those."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from loadgen.errors import InputError
from testbed.cli_run import console


class ExportFormat(StrEnum):
    """Whose files to write."""

    VLLM_BENCH = "vllm-bench"
    AIPERF = "aiperf"


Exports = Annotated[
    list[ExportFormat] | None,
    typer.Option("--export", help="Also write the run as `vllm bench serve` or AIPerf would; repeatable."),
]
RUN_FOLDERS = {ExportFormat.VLLM_BENCH: "vllm_bench.json", ExportFormat.AIPERF: "aiperf"}


def export_command(
    results: Annotated[Path, typer.Argument(help="Results folder of a run.")],
    to: Annotated[ExportFormat, typer.Option("--to", help="Whose files to write.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="A new file, for aiperf a new folder; default: in the results.")
    ] = None,
) -> None:
    """Write a run in the format of another load generator."""
    export_run(results, to, out or results / RUN_FOLDERS[to])


def export_beside(folder: Path, exports: list[ExportFormat] | None) -> None:
    """Write a run that has just ended in each of these formats, into its folder."""
    for to in exports or []:
        export_run(folder, to, folder / RUN_FOLDERS[to])


def export_run(folder: Path, to: ExportFormat, out: Path) -> None:
    """Write the run in `folder` as `to` to `out`, and say where.

    Raises:
        InputError: the folder holds no run, or something is at `out`.
    """
    from testbed.export.aiperf import write_aiperf_files
    from testbed.export.vllm_bench import vllm_bench_json
    from testbed.results import read_results
    from testbed.run_lock import check_ended

    results = check_ended(read_results(folder))
    if out.exists():
        raise InputError(f"{out}: exists already; give -o a new path")
    if to is ExportFormat.AIPERF:
        write_aiperf_files(results, out)
    else:
        out.write_text(json.dumps(vllm_bench_json(results), allow_nan=False) + "\n", encoding="utf-8")
    console.print(f"{to}: {out}", soft_wrap=True)
