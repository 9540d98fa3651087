"""The end of a run as the terminal shows it: the verdict, the warnings, and the figures by service."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from testbed.report import tables
from testbed.report.facts import RunFacts, gather_facts
from testbed.report.model_panels import describe_budget
from testbed.report.verdict import list_warnings, write_verdict
from testbed.results import Results


def render_summary(results: Results) -> RenderableType:
    """What happened in the run, to print."""
    facts = gather_facts(results)
    warnings = [Text(f"! {warning}", style="yellow") for warning in list_warnings(facts)]
    parts: list[RenderableType] = [
        Text(facts.name, style="bold"),
        Text(write_verdict(facts)),
        *warnings,
        *(Text(f"note: {note}", style="dim") for note in facts.notes),
        Padding(_service_table(facts), (1, 0, 0, 0)),
    ]
    if "gpus" in facts.summary:
        parts.append(Text(describe_budget(facts.summary["gpus"])))
    if facts.fleet is not None:
        parts.append(Padding(_fleet_line(facts), (0, 0, 1, 0)))
    return Group(*parts)


def _service_table(facts: RunFacts) -> Table:
    columns, rows = tables.service_table(facts)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        if row.kind == "group":
            table.add_row(Text(row.label, style="dim"))
        else:
            table.add_row(Text(("    " if row.kind == "sub" else "  ") + row.label), *map(Text, row.cells))
    return table


def _fleet_line(facts: RunFacts) -> Text:
    """The fleet's tiles on one line."""
    fleet = ("Prefix cache", "Peak replicas", "GPU-hours", "Scale events")
    pieces = [
        f"{tile.label.lower().replace('gpu', 'GPU')} {tile.value}" + (f" ({tile.aside})" if tile.aside else "")
        for tile in tables.key_figures(facts)
        if tile.label in fleet
    ]
    return Text("fleet: " + ", ".join(pieces))
