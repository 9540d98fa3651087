"""The `burstscale` command as a shell sees it, in this process or in one of its own."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from testbed import cli

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "configs/experiments/quickstart.yaml"
DEMO = ROOT / "configs/workloads/burst_demo.yaml"
SHORT = ("--limit-s", "20")


class Finished(NamedTuple):
    """What a command left: exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def burstscale(*arguments: str | Path, cwd: Path = ROOT) -> Finished:
    """Run the command in this process, as a shell would see it."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        patch.setattr(sys, "argv", ["burstscale", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        patch.chdir(cwd)
        try:
            cli.main()
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return Finished(code, stdout.getvalue(), stderr.getvalue())


def burstscale_process(*arguments: str | Path, cwd: Path = ROOT, timeout_s: float = 300) -> Finished:
    """Run the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "testbed.cli", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def assert_refused(result: Finished, *said: str) -> None:
    """The command ended with one line that says these words, and exit code 2."""
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, f"want one line, got:\n{result.stderr}"
    assert result.stderr.startswith("burstscale: ")
    for words in said:
        assert words in result.stderr
