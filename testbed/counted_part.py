"""Which part of a run counts for its figures: from the end of its warm-up to its end, or to where it was cut short."""

import pandas as pd

from loadgen.records import Cause
from testbed.results import Results


def warm_up_until_s(results: Results) -> float:
    """When the run's warm-up was over; 0 = it had none."""
    return float(results.environment.get("warm_up_until_s") or 0.0)


def counted_until_s(results: Results) -> float:
    """When the traffic was over, by its plan or since the run was cut short; of one that never began, by its plan."""
    planned_s = float(results.environment["trace"]["duration_s"])
    return min(planned_s, float(results.environment.get("cut_short_s") or planned_s))


def ended_records(results: Results) -> pd.DataFrame:
    """The records without those that the end of a run that was cut short kept from being sent, or from ending.

    Nobody knows what would have become of them: they are no failures of the server, and were no load on it later.
    """
    is_ended = results.records["cause"] != Cause.RUN_ENDED
    return results.records if is_ended.all() else results.records[is_ended]


def counted_records(results: Results) -> pd.DataFrame:
    """Of these, the records of requests that were scheduled after the warm-up."""
    ended, until_s = ended_records(results), warm_up_until_s(results)
    return ended[ended["scheduled_s"] >= until_s] if until_s else ended
