"""The tables and tiles of a trace's page hold the trace's totals."""

import numpy as np
import pytest

from loadgen.statistics.describe import describe
from loadgen.statistics.description import TraceDescription
from loadgen.trace import Service, Trace
from testbed.report.trace_page import build_sections
from testbed.report.trace_tables import COLUMNS, key_figures, short, traffic_table
from tests.testbed.report.described_traces import HOUR_S, conversations, renewal


def test_the_table_has_the_totals_of_every_service_and_model(trace: Trace, description: TraceDescription) -> None:
    rows = {row.label: row.cells for row in traffic_table(description) if row.kind != "sub"}
    for service in Service:
        mine = trace.service == service
        assert rows[service.label][0] == f"{mine.sum():,}"
        assert rows[service.label][4] == short(int(trace.prompt_tokens[mine].sum()))
        assert rows[service.label][8].startswith(f"{(trace.output_tokens[mine] == 0).sum():,} (")
    assert rows["all"][0] == f"{len(trace):,}"
    models = [row.cells[0] for row in traffic_table(description) if row.kind == "sub"]
    assert models[-2:] == [f"{(trace.model == model).sum():,}" for model in (0, 1)]


def test_the_tiles_hold_size_and_rate(trace: Trace, description: TraceDescription) -> None:
    tiles = {tile.label: tile for tile in key_figures(description)}
    assert tiles["Requests"].value == f"{len(trace):,}"
    assert (tiles["Duration"].value, tiles["Duration"].unit) == ("5", "days")
    busiest = np.bincount((trace.arrival_s // 10).astype(int)).max() / 10
    assert float(tiles["Peak rate"].value) == pytest.approx(busiest, rel=0.01)
    by_hour = np.bincount((trace.arrival_s // HOUR_S).astype(int), minlength=120)
    times = float(tiles["Busiest hour"].value.removesuffix("x"))
    assert times == pytest.approx(by_hour.max() / by_hour.mean(), rel=0.01)


def test_rows_of_tables_have_a_cell_for_every_column(description: TraceDescription) -> None:
    for each in (description, describe(conversations()), describe(renewal(0.3))):
        sections = build_sections(each)
        tables = [table for section in sections for _, table in section.tables]
        tables += [chart.table for section in sections for chart in section.charts if chart.table]
        assert len(tables) > 5
        for table in tables:
            assert {len(row) for row in table.rows} <= {len(table.columns)}
        assert {len(row.cells) for row in traffic_table(each)} == {len(COLUMNS)}
