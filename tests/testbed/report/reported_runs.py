"""Runs to report on, and what is shown of them."""

import dataclasses
import io
from typing import Any

from rich.console import Console

from testbed.report.facts import gather_facts
from testbed.report.page import build_timeline
from testbed.report.terminal import render_summary
from testbed.results import Results


def as_text(results: Results) -> str:
    """What the terminal shows, on one line."""
    console = Console(file=io.StringIO(), width=200)
    console.print(render_summary(results))
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def traces(results: Results) -> dict[str, dict[str, Any]]:
    """The figure's traces by the name of the legend's entry."""
    timeline, _ = build_timeline(gather_facts(results))
    entries = [entry for header in timeline.headers for entry in header.entries]
    return {entry.label: timeline.figure["data"][entry.trace] for entry in entries}


def without(story: Any, *parts: str) -> Any:
    """The story with some of its tables empty."""
    return dataclasses.replace(story, **{part: [] for part in parts})
