"""Requests as tools see them that count from the send."""

import pandas as pd

from testbed.export.sent_requests import sent_requests


def test_what_only_the_late_sending_made_fail_ended_well_for_tools_that_count_from_it() -> None:
    """Due at 0 with 10 s to its deadline, sent at 4 and answered at 13; the other one never was."""
    late = {"sent_s": 4.0, "first_token_s": 6.0, "finished_s": 13.0, "status": "timed_out", "output_tokens": 8}
    rows = [{"cause": "sent_late", **late}, {"cause": "deadline_in_engine", **late}]
    records = pd.DataFrame([{"request_id": place, "chunk_offsets_s": None, **row} for place, row in enumerate(rows)])
    found = sent_requests(records)
    assert found.is_ok.tolist() == [True, False]
    assert (found.ttft_s[0], found.latency_s[0]) == (2.0, 9.0)
