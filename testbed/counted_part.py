"""Which part of a run counts for its figures: from the end of its warm-up to its end, or to where it was cut short."""

import pandas as pd

from loadgen.records import Cause
from testbed.results import Results

_UNSEEN_ENDS = (Cause.RUN_ENDED, Cause.CLIENT_LOST)


def warm_up_until_s(results: Results) -> float:
    """When the run's warm-up was over; 0 = it had none."""
    return float(results.environment.get("warm_up_until_s") or 0.0)


def counted_until_s(results: Results) -> float:
    """When the traffic was over, by its plan or since the run was cut short; of one that never began, by its plan."""
    planned_s = float(results.environment["trace"]["duration_s"])
    return min(planned_s, float(results.environment.get("cut_short_s") or planned_s))


def ended_records(results: Results) -> pd.DataFrame:
    """The records without those of whose end nobody knows: the run was over before, or their client's process was.

    They are no failures of the server, and what was load on it of them, and for how long, is not known either.
    """
    is_ended = ~results.records["cause"].isin(_UNSEEN_ENDS)
    return results.records if is_ended.all() else results.records[is_ended]


def counted_records(results: Results) -> pd.DataFrame:
    """Of these, the records of requests that were scheduled after the warm-up."""
    return _after_warm_up(ended_records(results), results)


def planned_records(results: Results) -> pd.DataFrame:
    """All records after the warm-up, however they ended: by them the load generator is judged, not the server."""
    return _after_warm_up(results.records, results)


def lost_requests(results: Results) -> dict[str, int]:
    """Requests whose client's process ended before they did, in a run that went on: `sent`, and `not_sent`."""
    lost = results.records[results.records["cause"] == Cause.CLIENT_LOST]
    sent = int(lost["sent_s"].notna().sum())
    return {"sent": sent, "not_sent": len(lost) - sent}


def _after_warm_up(records: pd.DataFrame, results: Results) -> pd.DataFrame:
    until_s = warm_up_until_s(results)
    return records[records["scheduled_s"] >= until_s] if until_s else records
