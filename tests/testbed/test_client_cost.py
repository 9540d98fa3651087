"""What sending cost is told by the processes' time, by request and by the busiest of them."""

import pandas as pd
import pytest

from testbed.client_cost import client_cost


def test_processor_time_is_shared_by_the_requests_that_were_sent() -> None:
    environment = {"senders": [{"cpu_s": [1.5, 2.5]}, {"cpu_s": [1.0]}]}
    records = pd.DataFrame({"sent_s": [0.0, 1.0, None, 2.0]})
    found = client_cost(environment, records, 20.0)
    assert found is not None
    assert (found.cpu_s, found.busiest_fraction) == (5.0, 0.125)
    assert found.cpu_ms_per_request == pytest.approx(5000 / 3)


def test_where_nothing_was_sent_there_is_no_cost_of_a_request() -> None:
    found = client_cost({"senders": [{"cpu_s": [0.5]}]}, pd.DataFrame({"sent_s": [None]}), 2.0)
    assert found is not None
    assert found.as_json() == {"cpu_s": 0.5, "cpu_ms_per_request": None, "busiest_fraction": 0.25}


def test_a_simulated_run_has_no_client() -> None:
    assert client_cost({}, pd.DataFrame({"sent_s": [0.0]}), 2.0) is None
    assert client_cost({"senders": []}, pd.DataFrame({"sent_s": [0.0]}), 2.0) is None
