"""What is scheduled in the warm-up counts for no figure, and the run says so."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from testbed.report.facts import gather_facts
from testbed.results import read_results
from testbed.summary import summarise
from testbed.warm_up import find_warm_up_end


def samples(*rows: tuple[float, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["time_s", "replica_id", "kv_cache_fraction"])


def test_the_warm_up_ends_when_the_caches_of_all_engines_together_come_to_30_percent() -> None:
    engine = samples(
        (-1.0, "a", 0.9), (1.0, "a", 0.5), (1.1, "b", 0.0), (2.0, "a", 0.5), (2.1, "b", 0.1), (3.0, "a", 0.1)
    )
    assert find_warm_up_end(engine, 60.0) == (2.0, None)


@pytest.mark.parametrize(("run_s", "until_s", "said"), [(60.0, 0.0, "the whole run counts"), (2000.0, 1000.0, "ended")])
def test_caches_that_stay_empty_warm_up_1000_s_at_most(run_s: float, until_s: float, said: str) -> None:
    engine = samples((1.0, "a", 0.2), (1500.0, "a", 0.9))
    found_s, sentence = find_warm_up_end(engine, run_s)
    assert found_s == until_s
    assert sentence is not None
    assert "highest: 20 %" in sentence
    assert said in sentence


def test_the_figures_leave_out_what_is_scheduled_in_the_warm_up(tmp_path: Path, story: Any, write_run: Any) -> None:
    folder = write_run(tmp_path / "run", story)
    results = read_results(folder)
    whole = summarise(results)
    until_s = float(results.records["scheduled_s"].quantile(0.4))
    results.environment["warm_up_until_s"] = until_s
    later = results.records[results.records["scheduled_s"] >= until_s]
    summary = summarise(results)
    total = summary["requests"]["total"]
    assert 0 < total["offered"] == len(later) < len(results.records)
    assert total["ok"] == int((later["status"] == "ok").sum())
    assert summary["warm_up"] == {"until_s": until_s, "requests": len(results.records) - len(later)}
    assert summary["requests"]["duration_s"] == whole["requests"]["duration_s"] - until_s
    assert summary["recorded_requests"] == whole["recorded_requests"]
    assert whole["warm_up"] is None
    assert all(burst["onset_s"] >= until_s for burst in summary["bursts"]["worst"])


def test_a_reader_is_told_of_the_warm_up(tmp_path: Path, story: Any, write_run: Any) -> None:
    results = read_results(write_run(tmp_path / "run", story))
    results.environment["warm_up_until_s"] = 5.0
    object.__setattr__(results, "summary", summarise(results))
    assert any("the first 5 s are a warm-up" in note for note in gather_facts(results).notes)
